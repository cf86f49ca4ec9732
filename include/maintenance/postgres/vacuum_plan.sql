-- Statements of vacuum_plan.py, each under its name. {frozen_pages} differs by version.

-- statement: due
-- Every table rated by PostgreSQL's own rules for autovacuum (relation_needs_vacanalyze in its autovacuum.c): the table's
-- storage parameters go before the server's settings, a TOAST table without any of its own takes its table's. A share
-- of 1 is where autovacuum would act. System catalogs count by their age only, and so do tables that the configuration
-- excludes: once autovacuum would freeze them whatever their settings say.
WITH relations AS (
    SELECT c.oid, c.oid AS table_oid, false AS toast, c.reloptions, c.reltuples, c.relpages, c.relfrozenxid, c.relminmxid,
           n.nspname IN ('pg_catalog', 'information_schema') AS catalog, ({may_maintain}) AS may_maintain,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) = ANY (%(exclude)s::text[]) AS excluded,
           {frozen_pages} AS frozen_pages
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_(toast|temp)'
      AND (n.nspname NOT IN ('pg_catalog', 'information_schema') OR ({may_maintain}))
), all_relations AS (
    SELECT * FROM relations
    UNION ALL
    SELECT c.oid, r.oid, true, coalesce(c.reloptions, r.reloptions), c.reltuples, c.relpages, c.relfrozenxid,
           c.relminmxid, r.catalog, r.may_maintain, r.excluded, {frozen_pages}
    FROM relations r JOIN pg_class owner ON owner.oid = r.oid JOIN pg_class c ON c.oid = owner.reltoastrelid
), rules AS (
    SELECT a.*, greatest(a.reltuples, 0)::float8 AS tuples,
           coalesce(o.vacuum_threshold, current_setting('autovacuum_vacuum_threshold')::float8) AS vacuum_threshold,
           coalesce(o.vacuum_scale, current_setting('autovacuum_vacuum_scale_factor')::float8) AS vacuum_scale,
           coalesce(o.vacuum_most, current_setting('autovacuum_vacuum_max_threshold', true)::float8, -1) AS vacuum_most,
           coalesce(o.insert_threshold, current_setting('autovacuum_vacuum_insert_threshold')::float8) AS insert_threshold,
           coalesce(o.insert_scale, current_setting('autovacuum_vacuum_insert_scale_factor')::float8) AS insert_scale,
           coalesce(o.analyze_threshold, current_setting('autovacuum_analyze_threshold')::float8) AS analyze_threshold,
           coalesce(o.analyze_scale, current_setting('autovacuum_analyze_scale_factor')::float8) AS analyze_scale,
           least(o.freeze_age, current_setting('autovacuum_freeze_max_age')::float8) AS freeze_age,
           least(o.multixact_age, current_setting('autovacuum_multixact_freeze_max_age')::float8) AS multixact_age,
           CASE WHEN a.frozen_pages > 0 AND a.relpages > 0
                THEN 1 - least(a.frozen_pages, a.relpages)::float8 / a.relpages ELSE 1 END AS unfrozen
    FROM all_relations a
    CROSS JOIN LATERAL (
        SELECT max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_threshold') AS vacuum_threshold,
               max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_scale_factor') AS vacuum_scale,
               max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_max_threshold') AS vacuum_most,
               max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_insert_threshold')
                   AS insert_threshold,
               max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_insert_scale_factor')
                   AS insert_scale,
               max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_analyze_threshold') AS analyze_threshold,
               max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_analyze_scale_factor') AS analyze_scale,
               max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_freeze_max_age') AS freeze_age,
               max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_multixact_freeze_max_age')
                   AS multixact_age
        -- Parameters whose values are no numbers, such as autovacuum_enabled, must not reach the casts.
        FROM pg_options_to_table(a.reloptions) AS given
        WHERE option_name ~ '^autovacuum_.*(threshold|scale_factor|freeze_max_age)$'
    ) AS o
), rated AS (
    SELECT r.table_oid, r.toast, r.catalog, r.may_maintain, r.excluded, r.tuples,
           pg_stat_get_dead_tuples(r.oid) AS dead_rows, pg_stat_get_ins_since_vacuum(r.oid) AS inserted_rows,
           CASE WHEN NOT r.toast THEN pg_stat_get_mod_since_analyze(r.oid) END AS changed_rows,
           least(r.vacuum_threshold + r.vacuum_scale * r.tuples,
                 CASE WHEN r.vacuum_most >= 0 THEN r.vacuum_most END) AS dead_limit,
           CASE WHEN r.insert_threshold >= 0
                THEN r.insert_threshold + r.insert_scale * r.tuples * r.unfrozen END AS inserted_limit,
           r.analyze_threshold + r.analyze_scale * r.tuples AS changed_limit,
           -- Tables of access methods that keep no such ids have 0.
           age(nullif(r.relfrozenxid, '0'))::float8 / r.freeze_age AS transaction_share,
           mxid_age(nullif(r.relminmxid, '0'))::float8 / r.multixact_age AS multixact_share,
           age(nullif(r.relfrozenxid, '0')) AS transaction_age,
           greatest(pg_stat_get_last_vacuum_time(r.oid), pg_stat_get_last_autovacuum_time(r.oid)) AS vacuumed_at
    FROM rules r
), tables AS (
    SELECT table_oid, bool_or(catalog) AS catalog, bool_or(may_maintain) AS may_maintain,
           bool_or(excluded) AS excluded, max(tuples) FILTER (WHERE NOT toast) AS tuples,
           max(dead_rows / greatest(dead_limit, 1)) AS dead_share,
           max(inserted_rows / CASE WHEN inserted_limit >= 0 THEN greatest(inserted_limit, 1) END) AS inserted_share,
           max(changed_rows / greatest(changed_limit, 1)) AS changed_share,
           max(transaction_share) AS transaction_share, max(multixact_share) AS multixact_share,
           max(transaction_age) AS transaction_age,
           max(dead_rows) FILTER (WHERE NOT toast) AS dead_rows, max(dead_limit) FILTER (WHERE NOT toast) AS dead_limit,
           coalesce(max(dead_rows) FILTER (WHERE toast), 0) AS toast_dead_rows,
           max(inserted_rows) FILTER (WHERE NOT toast) AS inserted_rows,
           max(inserted_limit) FILTER (WHERE NOT toast) AS inserted_limit,
           max(changed_rows) AS changed_rows, max(changed_limit) FILTER (WHERE NOT toast) AS changed_limit,
           min(vacuumed_at) FILTER (WHERE NOT toast) AS vacuumed_at
    FROM rated GROUP BY table_oid
), unknown_columns AS (
    -- Columns that the planner knows nothing about. Statistics of columns that this role may not read are hidden from it.
    SELECT c.oid AS table_oid, count(*) FILTER (WHERE readable.it AND s.attname IS NULL) AS number,
           bool_or(NOT readable.it) AS hidden
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    CROSS JOIN LATERAL (SELECT has_column_privilege(c.oid, a.attnum, 'SELECT')
                               AND NOT (c.relrowsecurity AND row_security_active(c.oid)) AS it) AS readable
    LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
                        AND NOT s.inherited
    WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND coalesce(a.attstattarget, -1) <> 0 AND a.attgenerated <> 'v'
    GROUP BY c.oid
), judged AS (
    SELECT t.*, CASE WHEN u.number > 0 OR u.hidden IS NOT TRUE THEN coalesce(u.number, 0) END AS unknown_columns,
           u.hidden IS TRUE AS hidden,
           NOT t.catalog AND pg_stat_get_last_analyze_time(t.table_oid) IS NULL
               AND pg_stat_get_last_autoanalyze_time(t.table_oid) IS NULL
               AND pg_relation_size(t.table_oid) > 0 AS never_analyzed,
           NOT t.catalog AND coalesce(u.number, 0) > 0
               AND (t.tuples > 0 OR pg_stat_get_live_tuples(t.table_oid) > 0) AS unknown
    FROM tables t LEFT JOIN unknown_columns u USING (table_oid)
), due AS (
    SELECT * FROM judged
    WHERE greatest(transaction_share, multixact_share) >= CASE WHEN excluded THEN 1 ELSE %(freeze_share)s END
       OR NOT catalog AND NOT excluded AND (greatest(dead_share, inserted_share, changed_share) >= %(due_share)s OR never_analyzed
                           OR unknown)
)
SELECT (SELECT count(*) FROM tables WHERE NOT catalog AND NOT excluded) AS looked_at,
       (SELECT count(*) FROM tables WHERE NOT catalog AND NOT excluded AND may_maintain) AS may_maintain_at_all,
       (SELECT count(*) FROM judged WHERE NOT catalog AND NOT excluded AND hidden) AS statistics_hidden,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
       d.catalog, d.excluded, d.may_maintain, {owner}, {rows_of} AS rows_of, d.dead_share, d.inserted_share, d.changed_share, d.transaction_share, d.multixact_share,
       d.transaction_age, d.dead_rows, d.dead_limit, d.toast_dead_rows, d.inserted_rows, d.inserted_limit, d.changed_rows,
       d.changed_limit, d.vacuumed_at, d.unknown_columns, d.never_analyzed, d.unknown,
       coalesce(pg_total_relation_size(d.table_oid), 0) AS size_bytes, busy.holder AS busy_with,
       busy.analyzes AS busy_analyzes
FROM (SELECT 1) AS always
LEFT JOIN due d ON true
LEFT JOIN pg_class c ON c.oid = d.table_oid
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL ({vacuum_on_it}) AS busy ON true;

-- statement: vacuum_on_it
-- Whose vacuum or analyze works on a table: it keeps others out. Locks and the progress views' process ids are shown to
-- every role, what a process works on is not: it is the lock that tells.
SELECT coalesce(a.backend_type, 'process') || ' ' || l.pid || CASE WHEN does.analyzes THEN ' analyzes' ELSE ' vacuums' END
           AS holder, does.analyzes
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
CROSS JOIN LATERAL (
    SELECT l.pid IN (SELECT pid FROM pg_stat_progress_vacuum) AS vacuums,
           l.pid IN (SELECT pid FROM pg_stat_progress_analyze) AS analyzes
) AS does
WHERE l.locktype = 'relation' AND l.relation IN (c.oid, c.reltoastrelid) AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.mode = 'ShareUpdateExclusiveLock' AND l.pid <> pg_backend_pid()
  AND (does.vacuums OR does.analyzes OR a.backend_type = 'autovacuum worker')
LIMIT 1

-- statement: owner
pg_get_userbyid(c.relowner)::text AS owner,
    (SELECT rolsuper FROM pg_roles WHERE pg_roles.oid = c.relowner) AS owned_by_superuser

-- statement: rows_of
CASE WHEN c.relisshared THEN 'cluster' WHEN c.relnamespace = 'pg_catalog'::regnamespace THEN 'catalogs' ELSE 'tables' END

-- statement: parents
-- Partitioned tables, and those that others inherit from, with the changes that each table below ever saw: autovacuum
-- analyzes neither for them.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, leaves.table_changes, leaves.rows, c.relkind = 'p' AS partitioned,
       ({may_maintain}) AS may_maintain, {owner}, {rows_of} AS rows_of,
       current_setting('autovacuum_analyze_threshold')::float8
           + current_setting('autovacuum_analyze_scale_factor')::float8 * leaves.rows AS changed_limit
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT ({table_changes}) AS table_changes, coalesce(sum(greatest(l.reltuples, pg_stat_get_live_tuples(l.oid), 0)), 0)::float8 AS rows
    FROM ({tree}) AS below JOIN pg_class l USING (oid)
    WHERE l.relkind = 'r'
) AS leaves
WHERE c.relkind IN ('p', 'r') AND c.relpersistence <> 't' AND leaves.rows > 0
  AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)
  AND NOT quote_ident(n.nspname) || '.' || quote_ident(c.relname) = ANY (%(exclude)s::text[]);

-- statement: tree
-- A table and all that are its partitions or inherit from it, at whatever distance.
WITH RECURSIVE tree AS (
    SELECT c.oid
    UNION
    SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
)
SELECT oid FROM tree

-- statement: table_changes
-- How many rows each table l ever saw inserted, updated or deleted, by its oid.
coalesce(jsonb_object_agg(l.oid, pg_stat_get_tuples_inserted(l.oid) + pg_stat_get_tuples_updated(l.oid)
                                 + pg_stat_get_tuples_deleted(l.oid)), '{}')
