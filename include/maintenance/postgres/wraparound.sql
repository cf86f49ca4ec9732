-- Statements of wraparound.py, each under its name.

-- statement: limits
-- vacuum_failsafe_age exists since PostgreSQL 14; the server never lets it act before 1.05 times the freeze age.
SELECT max(setting::bigint) FILTER (WHERE name = 'autovacuum_freeze_max_age'),
       max(setting::bigint) FILTER (WHERE name = 'autovacuum_multixact_freeze_max_age'),
       max(setting::bigint) FILTER (WHERE name = 'vacuum_failsafe_age'),
       max(setting::bigint) FILTER (WHERE name = 'vacuum_multixact_failsafe_age')
FROM pg_settings;

-- statement: databases
SELECT datname::text, age(datfrozenxid)::bigint, mxid_age(datminmxid)::bigint, datname = current_database()
FROM pg_database ORDER BY age(datfrozenxid) DESC, datname;

-- statement: tables
-- The oldest tables, each with the older of itself and its TOAST table, and with its own limits where it has some.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname),
       greatest(age(c.relfrozenxid), age(nullif(t.relfrozenxid, '0')))::bigint AS transactions,
       greatest(mxid_age(c.relminmxid), mxid_age(nullif(t.relminmxid, '0')))::bigint AS multixacts,
       (SELECT option_value::bigint FROM pg_options_to_table(c.reloptions)
        WHERE option_name = 'autovacuum_freeze_max_age'),
       (SELECT option_value::bigint FROM pg_options_to_table(c.reloptions)
        WHERE option_name = 'autovacuum_multixact_freeze_max_age'),
       pg_table_size(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class t ON t.oid = nullif(c.reltoastrelid, 0)
WHERE c.relkind IN ('r', 'm') AND c.relfrozenxid <> '0' AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY greatest(age(c.relfrozenxid)::numeric / %(transactions)s, age(nullif(t.relfrozenxid, '0'))::numeric / %(transactions)s,
                  mxid_age(c.relminmxid)::numeric / %(multixacts)s) DESC, 1
LIMIT %(number)s;
