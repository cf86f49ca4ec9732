-- Statement of sources.py.

-- statement: index_on_time
SELECT EXISTS (
           SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
           JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
           WHERE i.indrelid = %(oid)s AND i.indisvalid AND i.indpred IS NULL AND a.attname = %(time)s
       ) AS indexed,
       (SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class
        WHERE oid = %(oid)s OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %(oid)s)) AS rows;
