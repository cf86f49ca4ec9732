-- What the role of platform_db_maintenance may do. {may_maintain} is one of the two parts at the end, by the server's version.

-- statement: role
SELECT current_user::text, rolsuper, pg_has_role(current_user, 'pg_monitor', 'USAGE')
FROM pg_roles WHERE rolname = current_user;

-- statement: pruned_table
SELECT has_schema_privilege(relnamespace, 'USAGE'), has_table_privilege(pg_class.oid, 'SELECT'),
       has_table_privilege(pg_class.oid, 'DELETE')
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = %s AND relname = %s AND relkind IN ('r', 'p');

-- statement: tables
SELECT count(*), count(*) FILTER (WHERE {may_maintain})
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_';

-- statement: unread_sequences
-- By schema, sequences whose last number the role may not see.
SELECT n.nspname, count(*)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  -- Asked of sequences only, in whatever order the conditions are looked at.
  AND CASE WHEN c.relkind = 'S' THEN NOT has_sequence_privilege(c.oid, 'SELECT, USAGE') END
GROUP BY n.nspname ORDER BY n.nspname;

-- statement: may_maintain
has_table_privilege(c.oid, 'MAINTAIN') OR pg_has_role(c.relowner, 'USAGE')
    OR NOT c.relisshared AND EXISTS (SELECT FROM pg_database d
                                     WHERE d.datname = current_database() AND pg_has_role(d.datdba, 'USAGE'))

-- statement: may_maintain_before_17
pg_has_role(c.relowner, 'USAGE')
    OR NOT c.relisshared AND EXISTS (SELECT FROM pg_database d
                                     WHERE d.datname = current_database() AND pg_has_role(d.datdba, 'USAGE'))
