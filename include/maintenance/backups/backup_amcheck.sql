-- Statements of backup_amcheck.py, each under its name.

-- statement: btree_indexes
SELECT i.indexrelid, i.indexrelid::regclass::text
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
WHERE a.amname = 'btree' AND i.indisvalid AND c.relpersistence <> 't' AND c.relkind = 'i'
ORDER BY c.relpages DESC;
