-- Statements of index_review.py, each under its name. They read catalogs and statistics only, on PostgreSQL 13 to 18.

-- statement: now
SELECT clock_timestamp();

-- statement: statistics_since
-- The last reset of this database's statistics, or the crash that lost them: that begins the server-wide ones anew too,
-- while a reset of one of those alone is later.
SELECT greatest((SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),
                least((SELECT stats_reset FROM pg_stat_bgwriter), (SELECT stats_reset FROM pg_stat_archiver),
                      (SELECT min(stats_reset) FROM pg_stat_slru)));

-- statement: usage
-- Scans of each index; the partitions of a partitioned one together. last_idx_scan is there from PostgreSQL 16 on.
SELECT root.oid::bigint, quote_ident(n.nspname) || '.' || quote_ident(c.relname), sum(s.idx_scan)::bigint,
       max((to_jsonb(s) ->> 'last_idx_scan')::timestamptz)
FROM pg_stat_user_indexes s
CROSS JOIN LATERAL (SELECT coalesce(pg_partition_root(s.indexrelid)::oid, s.indexrelid) AS oid) AS root
JOIN pg_class c ON c.oid = root.oid AND c.relpersistence <> 't'
JOIN pg_namespace n ON n.oid = c.relnamespace
GROUP BY root.oid, n.nspname, c.relname
ORDER BY 1;

-- statement: standbys
-- Physical standbys: neither a base backup nor a logical subscriber nor a receiver of WAL, which replays nothing.
SELECT coalesce(r.application_name, ''), coalesce(host(r.client_addr), 'the same host')
FROM pg_stat_replication r
WHERE (r.state IS NULL OR r.state <> 'backup' AND r.replay_lsn IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
ORDER BY 1, 2;

-- statement: unread_slots
-- Physical slots that nobody reads just now. A standby keeps its slot while it is down, and its scans count all the same.
SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active AND NOT temporary ORDER BY 1;

-- statement: replica
-- Whether this is a standby, which server it is, and under which name it shows in its primary's list of standbys.
SELECT pg_is_in_recovery(),
       concat_ws(' ', host(inet_server_addr()), inet_server_port(), pg_postmaster_start_time()),
       (SELECT coalesce(substring(conninfo FROM '(?:^|\s)application_name=''?([^''\s]+)'),
                        substring(conninfo FROM 'fallback_application_name=''?([^''\s]+)')) FROM pg_stat_wal_receiver);

-- statement: droppable
-- Indexes that hold no rule and may be dropped when nobody uses them: they enforce nothing, identify no rows for
-- replication, order no table, are no part of a partitioned one, and no foreign key is looked up through them.
SELECT i.indexrelid::bigint, tree.bytes::bigint, c.relkind = 'I' AS partitioned,
       quote_ident(tn.nspname) || '.' || quote_ident(t.relname) AS table_name,
       ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, false) FROM generate_series(1, i.indnatts) AS k
             WHERE (i.indkey::int2[])[k - 1] = 0 ORDER BY k) AS expressions
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind IN ('i', 'I') AND NOT c.relispartition AND c.relpersistence <> 't'
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace tn ON tn.oid = t.relnamespace
    AND tn.nspname NOT IN ('pg_catalog', 'information_schema') AND tn.nspname NOT LIKE 'pg\_toast%%'
CROSS JOIN LATERAL (
    SELECT CASE c.relkind WHEN 'I' THEN (SELECT coalesce(sum(pg_relation_size(relid)), 0) FROM pg_partition_tree(c.oid))
                          ELSE pg_relation_size(c.oid) END AS bytes
) AS tree
WHERE i.indisvalid AND NOT (i.indisunique OR i.indisprimary OR i.indisexclusion OR i.indisreplident OR i.indisclustered)
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
  AND NOT EXISTS (SELECT FROM pg_constraint k
                  WHERE k.contype = 'f' AND k.conrelid = i.indrelid
                    AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey)
  AND tree.bytes >= %(minimum_bytes)s
ORDER BY 1;

-- statement: redundant
-- Indexes whose work another one does: the same columns in the same order (of a B-tree: the first columns), with the
-- same operator classes, collations, sort orders and condition. Of two equal ones the younger goes. A part of a partitioned
-- index cannot go alone, but does another one's work; its whole is what could be dropped.
WITH index AS (
    SELECT i.indexrelid AS oid, i.indrelid, am.amname, i.indnkeyatts AS keys, pg_get_expr(i.indpred, i.indrelid) AS condition,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
           quote_ident(tn.nspname) || '.' || quote_ident(t.relname) AS table_name, c.relkind = 'I' AS partitioned,
           substring(pg_get_indexdef(i.indexrelid) FROM ' USING .*') AS definition,
           NOT (i.indisunique OR i.indisprimary OR i.indisexclusion OR i.indisreplident OR i.indisclustered
                OR EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid) OR c.relispartition) AS droppable,
           (SELECT quote_ident(rn.nspname) || '.' || quote_ident(r.relname) FROM pg_class r JOIN pg_namespace rn ON rn.oid = r.relnamespace
            WHERE r.oid = coalesce(pg_partition_root(c.oid)::oid, c.oid)) AS whole,
           CASE c.relkind WHEN 'I' THEN (SELECT coalesce(sum(pg_relation_size(relid)), 0) FROM pg_partition_tree(c.oid))
                          ELSE pg_relation_size(c.oid) END::bigint AS bytes,
           ARRAY(SELECT concat_ws(' ', pg_get_indexdef(i.indexrelid, k, false), (i.indclass::oid[])[k - 1],
                                  (i.indcollation::oid[])[k - 1], (i.indoption::int2[])[k - 1])
                 FROM generate_series(1, i.indnkeyatts) AS k ORDER BY k) AS key_columns,
           ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, false)
                 FROM generate_series(i.indnkeyatts + 1, i.indnatts) AS k ORDER BY 1) AS included,
           ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, false) FROM generate_series(1, i.indnatts) AS k) AS columns
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid AND c.relpersistence <> 't'
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_am am ON am.oid = c.relam
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace tn ON tn.oid = t.relnamespace
        AND tn.nspname NOT IN ('pg_catalog', 'information_schema') AND tn.nspname NOT LIKE 'pg\_toast%'
    WHERE i.indisvalid AND i.indisready
)
SELECT DISTINCT ON (one.name) one.name, other.name, one.table_name, one.bytes, one.partitioned, identical.it AS identical,
       one.definition, other.definition, other.whole
FROM index one
JOIN index other ON other.indrelid = one.indrelid AND other.oid <> one.oid AND other.amname = one.amname
    AND other.condition IS NOT DISTINCT FROM one.condition
CROSS JOIN LATERAL (
    SELECT CASE WHEN one.amname = 'btree' THEN other.key_columns = one.key_columns AND other.included = one.included
                ELSE other.definition = one.definition END AS it
) AS identical
WHERE one.droppable
  AND CASE WHEN identical.it THEN NOT other.droppable OR one.oid > other.oid
           ELSE one.amname = 'btree' AND other.key_columns[1:one.keys] = one.key_columns AND one.included <@ other.columns
      END
ORDER BY one.name, identical.it DESC, other.bytes, other.oid;

-- statement: invalid
-- Indexes that no query uses though every write maintains them. One that is being built now is left out: its builder
-- holds a lock on it, and the progress view names it to whom may see that. Who may not is told whether somebody holds the
-- only lock that a builder has while it waits for others; an autovacuum has that lock as well.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), quote_ident(tn.nspname) || '.' || quote_ident(t.relname),
       pg_relation_size(c.oid)::bigint, c.relkind = 'I', c.relname ~ '_cc(new|old)[0-9]*$',
       (SELECT quote_ident(wn.nspname) || '.' || quote_ident(w.relname) FROM pg_inherits h
        JOIN pg_class w ON w.oid = h.inhparent JOIN pg_namespace wn ON wn.oid = w.relnamespace
        WHERE h.inhrelid = i.indexrelid) AS whole,
       (SELECT min(l.pid) FROM pg_locks l
        WHERE NOT pg_has_role('pg_read_all_stats', 'USAGE') AND l.locktype = 'relation' AND l.granted
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND l.relation = i.indrelid AND l.mode = 'ShareUpdateExclusiveLock') AS perhaps_builder
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid AND c.relpersistence <> 't'
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE NOT i.indisvalid
  AND NOT EXISTS (SELECT FROM pg_locks l
                  WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid()
                    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND (l.relation = i.indexrelid AND l.mode = 'ShareUpdateExclusiveLock'
                         OR l.relation IN (i.indexrelid, i.indrelid) AND l.mode IN ('ShareLock', 'AccessExclusiveLock')))
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p
                  WHERE p.datname = current_database() AND (p.index_relid = i.indexrelid OR p.relid = i.indrelid))
ORDER BY 1;

-- statement: foreign_keys
-- Foreign keys whose columns are not the first ones of a valid index: of the table, or of each partition that holds rows,
-- whether or not the whole has one. A condition that only leaves out the rows without a value does no harm: those refer
-- to nothing. A key with a PERIOD (PostgreSQL 18) is looked up by GiST.
WITH key AS (
    SELECT k.oid, k.conname, k.conrelid, k.confrelid,
           CASE (to_jsonb(k) ->> 'conperiod')::boolean WHEN true THEN 'gist' ELSE 'btree' END AS method,
           ARRAY(SELECT a.attname FROM unnest(k.conkey) WITH ORDINALITY AS part (number, position)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = part.number ORDER BY position) AS columns
    FROM pg_constraint k
    WHERE k.contype = 'f' AND k.conparentid = 0 AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
), place AS (
    SELECT key.oid, t.oid AS relid FROM key JOIN pg_class t ON t.oid = key.conrelid AND t.relkind <> 'p'
    UNION ALL
    SELECT key.oid, p.relid FROM key JOIN pg_class t ON t.oid = key.conrelid AND t.relkind = 'p'
    CROSS JOIN LATERAL pg_partition_tree(t.oid) AS p WHERE p.isleaf
), bare AS (
    SELECT key.oid, count(*) AS places, sum(pg_relation_size(place.relid)) AS bytes
    FROM key
    JOIN place USING (oid)
    WHERE NOT EXISTS (
        SELECT FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_am am ON am.oid = c.relam AND am.amname IN ('btree', 'hash', key.method)
        WHERE i.indrelid = place.relid AND i.indisvalid AND i.indnkeyatts >= cardinality(key.columns)
          AND key.columns <@ ARRAY(SELECT a.attname FROM pg_attribute a
                                   WHERE a.attrelid = i.indrelid
                                     AND a.attnum = ANY ((i.indkey::int2[])[0:cardinality(key.columns) - 1]))
          AND (i.indpred IS NULL OR cardinality(key.columns) = 1
               AND pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', key.columns[1])))
    GROUP BY key.oid
)
SELECT t.oid::bigint, key.conname, quote_ident(n.nspname) || '.' || quote_ident(t.relname), key.confrelid::regclass::text,
       ARRAY(SELECT quote_ident(name) FROM unnest(key.columns) WITH ORDINALITY AS part (name, position) ORDER BY position),
       key.method, bare.bytes::bigint, greatest(t.reltuples, 0)::bigint, CASE WHEN t.relkind = 'p' THEN bare.places END
FROM key
JOIN bare USING (oid)
JOIN pg_class t ON t.oid = key.conrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
ORDER BY 3, 2;

-- statement: partitions
-- A partitioned table and all its partitions, each after the one that it belongs to; with the index that is there
-- already, as it is to be and not yet a part of another one.
SELECT p.relid::oid::bigint, p.parentrelid::oid::bigint, p.isleaf, quote_ident(n.nspname), c.relname,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname),
       (SELECT quote_ident(n.nspname) || '.' || quote_ident(x.relname)
        FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid AND NOT x.relispartition
        WHERE i.indrelid = p.relid AND i.indisvalid AND NOT i.indisunique
          AND substring(pg_get_indexdef(i.indexrelid) FROM ' (USING .*)') = %(definition)s
        ORDER BY i.indexrelid LIMIT 1)
FROM pg_partition_tree(%(oid)s::oid::regclass) p
JOIN pg_class c ON c.oid = p.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY p.level, n.nspname, c.relname;

-- statement: taken_names
-- The names that an index of those tables may not have, with their schemas.
SELECT quote_ident(n.nspname), c.relname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relnamespace IN (SELECT t.relnamespace FROM pg_partition_tree(%(oid)s::oid::regclass) p JOIN pg_class t ON t.oid = p.relid);

-- statement: counted
-- How many indexes and foreign keys there are to review.
SELECT (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT c.relispartition AND c.relpersistence <> 't'
          AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_toast%'),
       (SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conparentid = 0);
