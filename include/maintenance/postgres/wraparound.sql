-- Statements of wraparound.py, each under its name.

-- statement: limits
-- vacuum_failsafe_age exists since PostgreSQL 14; the server never lets it act before 1.05 times the freeze age.
SELECT max(setting::bigint) FILTER (WHERE name = 'autovacuum_freeze_max_age'),
       max(setting::bigint) FILTER (WHERE name = 'autovacuum_multixact_freeze_max_age'),
       max(setting::bigint) FILTER (WHERE name = 'vacuum_failsafe_age'),
       max(setting::bigint) FILTER (WHERE name = 'vacuum_multixact_failsafe_age')
FROM pg_settings;

-- statement: databases
SELECT datname::text, age(datfrozenxid)::bigint, mxid_age(datminmxid)::bigint, datname = current_database(),
       quote_ident(datname), NOT datallowconn
FROM pg_database ORDER BY age(datfrozenxid) DESC, datname;

-- statement: tables
-- The oldest tables, each with the older of itself and its TOAST table, and with its own limits where it has some. The
-- oldest catalogs and temporary tables are among them: they hold the age of the database like any other. Since PostgreSQL
-- 16 the number in a temporary schema's name leads to its session; there is none when it was left behind. Who may not see
-- when that began does not get it.
SELECT name, transactions, multixacts, own_transactions, own_multixacts, bytes, rows_of, temporary, backend,
       pg_stat_get_backend_pid(backend) AS session, pg_stat_get_backend_start(backend) AS session_began
FROM (
    SELECT *, row_number() OVER (PARTITION BY temporary, catalog ORDER BY share DESC, name) AS place
    FROM (
        SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
               greatest(age(c.relfrozenxid), age(nullif(t.relfrozenxid, '0')))::bigint AS transactions,
               greatest(mxid_age(c.relminmxid), mxid_age(nullif(t.relminmxid, '0')))::bigint AS multixacts,
               (SELECT option_value::bigint FROM pg_options_to_table(c.reloptions)
                WHERE option_name = 'autovacuum_freeze_max_age') AS own_transactions,
               (SELECT option_value::bigint FROM pg_options_to_table(c.reloptions)
                WHERE option_name = 'autovacuum_multixact_freeze_max_age') AS own_multixacts,
               coalesce(pg_table_size(c.oid), 0) AS bytes,
               CASE WHEN c.relisshared THEN 'cluster'
                    WHEN n.nspname = 'pg_catalog' THEN 'catalogs' ELSE 'tables' END AS rows_of,
               c.relpersistence = 't' AS temporary,
               CASE WHEN c.relpersistence = 't' AND current_setting('server_version_num')::integer >= 160000
                    THEN substring(n.nspname FROM '^pg_temp_(\d+)$')::integer END AS backend,
               n.nspname IN ('pg_catalog', 'information_schema') AS catalog,
               greatest(age(c.relfrozenxid)::numeric / %(transactions)s,
                        age(nullif(t.relfrozenxid, '0'))::numeric / %(transactions)s,
                        mxid_age(c.relminmxid)::numeric / %(multixacts)s) AS share
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_class t ON t.oid = nullif(c.reltoastrelid, 0)
        WHERE c.relkind IN ('r', 'm') AND c.relfrozenxid <> '0'
    ) AS aged
) AS placed
WHERE place <= CASE WHEN temporary OR catalog THEN %(others)s ELSE %(number)s END
ORDER BY share DESC, name;
