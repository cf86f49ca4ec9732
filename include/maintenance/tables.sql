-- Statements of tables.py, each under its name.

-- statement: due
-- Tables with enough dead or changed rows. All tuples are the dead and the live ones; of the two counts of the live
-- ones (the last vacuum's or analyze's, and the running statistics) the larger is taken, as either may be stale.
SELECT quote_ident(s.schemaname) || '.' || quote_ident(s.relname) AS name,
       s.n_dead_tup >= %(dead_minimum)s AND s.n_dead_tup >= %(dead_share)s * (rows.live + s.n_dead_tup) AS vacuum,
       s.n_mod_since_analyze >= %(changed_minimum)s
           AND s.n_mod_since_analyze >= %(changed_share)s * rows.live AS analyze,
       EXISTS (SELECT FROM pg_stat_progress_vacuum p WHERE p.relid = s.relid) AS busy,
       s.n_dead_tup, s.n_mod_since_analyze, rows.live::bigint
FROM pg_stat_user_tables s
JOIN pg_class c ON c.oid = s.relid AND c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
CROSS JOIN LATERAL (SELECT greatest(c.reltuples, s.n_live_tup, 0)::numeric AS live) AS rows
WHERE (s.n_dead_tup > 0 OR s.n_mod_since_analyze > 0)
ORDER BY s.n_dead_tup DESC, name;

-- statement: measure
SELECT s.n_dead_tup AS dead_rows, s.n_live_tup AS live_rows, s.n_mod_since_analyze AS changed_rows,
       s.vacuum_count, s.analyze_count, s.last_vacuum, s.last_analyze,
       pg_total_relation_size(s.relid) AS size_bytes, age(c.relfrozenxid) AS transaction_age
FROM pg_stat_all_tables s JOIN pg_class c ON c.oid = s.relid
WHERE s.relid = %(oid)s;
