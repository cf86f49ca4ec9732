-- Statements of partition_remedy.py, each under its name: what is in the way of an exchange.

-- statement: time
SELECT quote_ident(%(time_column)s);

-- statement: may_look
-- Whether the newest row can be seen, by the session's role and by an index.
SELECT has_schema_privilege(c.relnamespace, 'USAGE') AND has_column_privilege(c.oid, %(time_column)s, 'SELECT')
   AND NOT row_security_active(c.oid)
   AND EXISTS (SELECT FROM pg_index i
               JOIN pg_class ic ON ic.oid = i.indexrelid
               JOIN pg_am m ON m.oid = ic.relam AND m.amname = 'btree'
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] AND a.attname = %(time_column)s
               WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL)
FROM pg_class c WHERE c.oid = %(oid)s;

-- statement: left_over
-- What an earlier attempt has made before its exchange, and how it is undone.
SELECT 'the constraint ' || quote_ident(k.conname),
       format('ALTER TABLE %%s DROP CONSTRAINT %%I;', k.conrelid::regclass, k.conname)
FROM pg_constraint k WHERE k.conrelid = %(oid)s AND k.conname = %(limit)s
UNION ALL
SELECT 'the index ' || quote_ident(ic.relname), format('DROP INDEX CONCURRENTLY %%s;', ic.oid::regclass)
FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = %(oid)s AND ic.relname = %(time_key)s
ORDER BY 1;

-- statement: references
-- Foreign keys that point to the table: they need a unique key that a partitioned table cannot have without its time.
SELECT k.conrelid::regclass::text || '.' || quote_ident(k.conname)
FROM pg_constraint k WHERE k.confrelid = %(oid)s AND k.contype = 'f' AND k.conparentid = 0 ORDER BY 1;

-- statement: keys
-- Primary keys and unique constraints and indexes: name, kind, columns, whether the time column is one of them, whether
-- it has nothing but its columns, and its definition.
SELECT quote_ident(ic.relname), coalesce(k.contype::text, 'i'),
       (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY u.place)
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS u (number, place)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.number WHERE u.place <= i.indnkeyatts),
       EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS u (number, place)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.number AND a.attname = %(time_column)s
               WHERE u.place <= i.indnkeyatts),
       i.indpred IS NULL AND i.indexprs IS NULL AND i.indnatts = i.indnkeyatts AND NOT coalesce(k.condeferrable, false),
       coalesce(pg_get_constraintdef(k.oid), pg_get_indexdef(i.indexrelid))
FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u') AND k.conrelid = i.indrelid
WHERE i.indrelid = %(oid)s AND i.indisunique AND i.indisvalid ORDER BY k.contype = 'p' DESC NULLS LAST, 1;

-- statement: left_behind
-- What would stay with the old table alone and cannot be carried over by rote, and why. What is NOT ENFORCED (18+) holds
-- for no row and can never be validated.
SELECT 'the trigger ' || quote_ident(t.tgname), 'it would act on the old rows only; drop it before and make it again on the new table'
FROM pg_trigger t WHERE t.tgrelid = %(oid)s AND NOT t.tgisinternal
UNION ALL
SELECT 'the rule ' || quote_ident(r.rulename), 'it would act on the old rows only; drop it before and make it again on the new table'
FROM pg_rewrite r WHERE r.ev_class = %(oid)s
UNION ALL
SELECT 'the exclusion constraint ' || quote_ident(k.conname), 'a partitioned table cannot hold it'
FROM pg_constraint k WHERE k.conrelid = %(oid)s AND k.contype = 'x'
UNION ALL
SELECT 'the constraint ' || quote_ident(k.conname), 'a partitioned table cannot hold one that is NO INHERIT'
FROM pg_constraint k WHERE k.conrelid = %(oid)s AND k.contype IN ('c', 'n') AND k.connoinherit
UNION ALL
SELECT CASE k.contype WHEN 'f' THEN 'the foreign key ' ELSE 'the constraint ' END || quote_ident(k.conname),
       'it is NOT VALID; validate it before'
FROM pg_constraint k
WHERE k.conrelid = %(oid)s AND k.contype IN ('c', 'f', 'n') AND NOT k.convalidated AND k.conname <> %(limit)s
  AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'
UNION ALL
SELECT 'the replica identity', 'it is an index, which new partitions would not have; set it to DEFAULT or FULL before'
FROM pg_class c WHERE c.oid = %(oid)s AND c.relreplident = 'i'
UNION ALL
SELECT 'a subscription', 'its changes would no longer be written into the table; drop it before'
WHERE EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = %(oid)s)
ORDER BY 1;

-- statement: bound
-- Objects that follow the old table, or the type of its rows, whatever its name becomes. Views are made again.
WITH target AS (
    SELECT c.oid, c.reltype, t.typarray FROM pg_class c JOIN pg_type t ON t.oid = c.reltype WHERE c.oid = %(oid)s
)
SELECT DISTINCT CASE WHEN v.relkind IN ('v', 'm') THEN pg_describe_object('pg_class'::regclass, v.oid, 0)
                     ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END
FROM target JOIN pg_depend d ON d.deptype = 'n'
LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
LEFT JOIN pg_class v ON v.oid = r.ev_class
LEFT JOIN pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
WHERE (d.refclassid = 'pg_class'::regclass AND d.refobjid = target.oid
       AND (d.classid = 'pg_proc'::regclass OR p.polrelid <> target.oid
            OR (r.ev_class <> target.oid AND v.relkind <> 'v')))
   OR (d.refclassid = 'pg_type'::regclass AND d.refobjid IN (target.reltype, target.typarray))
   OR (d.refclassid = 'pg_constraint'::regclass AND r.ev_class <> target.oid
       AND d.refobjid IN (SELECT k.oid FROM pg_constraint k WHERE k.conrelid = target.oid))
ORDER BY 1;

-- statement: publications
-- Those that would not publish new rows, or publish them under the names of partitions.
SELECT quote_ident(p.pubname)
FROM pg_publication p CROSS JOIN pg_class c
WHERE c.oid = %(oid)s
  AND (EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid)
       OR (NOT p.pubviaroot
           AND (p.puballtables OR EXISTS (SELECT FROM pg_publication_namespace s
                                          WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace))))
ORDER BY 1;

-- statement: publications_before_15
-- Before PostgreSQL 15 there are no publications of whole schemas.
SELECT quote_ident(p.pubname)
FROM pg_publication p
WHERE EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = %(oid)s)
   OR (p.puballtables AND NOT p.pubviaroot)
ORDER BY 1;
