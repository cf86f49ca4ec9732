-- Statements of backup_amcheck.py, each under its name.

-- statement: btree_indexes
SELECT i.indexrelid, i.indexrelid::regclass::text
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
WHERE a.amname = 'btree' AND i.indisvalid AND c.relpersistence <> 't' AND c.relkind = 'i'
ORDER BY c.relpages DESC;

-- statement: collations
-- Collations of indexes whose recorded version is not this machine's: their text may be sorted otherwise here.
SELECT c.oid::regcollation::text, c.collversion, pg_collation_actual_version(c.oid)
FROM pg_collation c
WHERE c.oid IN (SELECT unnest(indcollation) FROM pg_index)
  AND c.collversion IS NOT NULL AND c.collversion IS DISTINCT FROM pg_collation_actual_version(c.oid);

-- statement: database_collation
-- The same of the database's own, which indexes have as "default".
SELECT 'database ' || quote_ident(datname), datcollversion, pg_database_collation_actual_version(oid)
FROM pg_database
WHERE datname = current_database() AND datcollversion IS NOT NULL
  AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)
  AND EXISTS (SELECT FROM pg_index WHERE 'pg_catalog."default"'::regcollation = ANY (indcollation::oid[]));
