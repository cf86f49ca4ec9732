-- Statements of bloat.py, each under its name. They work on PostgreSQL 13 to 18.

-- statement: indexes
-- B-tree indexes and the size that their entries need by the planner's statistics. An entry is a header of 8 bytes
-- (16 where columns may be empty), the columns' data, all aligned to 8 bytes, and a line pointer of 4 bytes; a leaf
-- page has a header of 24 and a special space of 16 bytes and is filled up to the fill factor. Inner pages (about one
-- in a hundred) are left out, which makes the estimate a little high.
-- Equal entries are merged (PostgreSQL 13): one entry with a list of 6 bytes for each row. How far depends on the order
-- in which they came, so an index with half as many distinct entries as rows, or fewer, has no needed_bytes, only the
-- least it may need: the size with all of them merged. The distinct values of several columns are multiplied, as if
-- they were independent of each other: of columns that are not, an estimate may stay that is too high.
WITH index AS (
    SELECT i.indexrelid, i.indrelid, i.indkey::int2[] AS numbers, i.indnatts, n.nspname, c.relname, t.relname AS table_name,
           tn.nspname AS table_schema, c.reltuples, pg_relation_size(c.oid) AS bytes,
           current_setting('block_size')::numeric AS page,
           coalesce(substring(array_to_string(c.reloptions, ' ') FROM 'fillfactor=([0-9]+)')::numeric, 90) / 100 AS fill,
           t.reltuples AS table_rows, i.indclass::oid[] AS classes,
           -- A unique index, one with INCLUDE and one whose types tell equal from identical merge nothing.
           NOT i.indisunique AND i.indnatts = i.indnkeyatts
               AND coalesce(substring(array_to_string(c.reloptions, ' ') FROM 'deduplicate_items=(\w+)')::boolean, true)
               AS merging,
           -- The entries as of the last vacuum or analyze, and as many more as the table has got since.
           c.reltuples * greatest(1, s.n_live_tup / nullif(t.reltuples, 0)::numeric) AS entries,
           greatest(s.last_analyze, s.last_autoanalyze) AS analyzed_at
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i' AND c.relpersistence <> 't'
    JOIN pg_am am ON am.oid = c.relam AND am.amname = 'btree'
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace tn ON tn.oid = t.relnamespace
        AND tn.nspname NOT IN ('pg_catalog', 'information_schema') AND tn.nspname NOT LIKE 'pg\_toast%%'
    LEFT JOIN pg_stat_all_tables s ON s.relid = t.oid
    WHERE i.indisvalid AND i.indisready AND NOT i.indisexclusion AND pg_relation_size(c.oid) >= %(minimum_bytes)s
), entry AS (
    SELECT index.indexrelid, sum((1 - st.null_frac) * st.avg_width) AS data, coalesce(bool_or(st.null_frac > 0), false) AS empty,
           bool_or(st.avg_width IS NULL OR own.atttypid = 'name'::regtype) AS is_na,
           exp(sum(ln(greatest(1, CASE WHEN st.n_distinct < 0 THEN -st.n_distinct * index.table_rows ELSE st.n_distinct END
                                  + (st.null_frac > 0)::integer))))::numeric AS distinct_entries,
           bool_and(EXISTS (SELECT FROM pg_opclass o
                            JOIN pg_amproc p ON p.amprocfamily = o.opcfamily AND p.amprocnum = 4
                                AND (p.amproclefttype, p.amprocrighttype) = (o.opcintype, o.opcintype)
                            WHERE o.oid = index.classes[position - 1])) AS equal_is_identical,
           string_agg(CASE WHEN source.attname IS NULL
                           THEN format('ALTER INDEX %%I.%%I ALTER COLUMN %%s SET STATISTICS -1;', index.nspname, index.relname, position)
                           ELSE format('ALTER TABLE %%I.%%I ALTER COLUMN %%I SET STATISTICS -1;', index.table_schema,
                                       index.table_name, source.attname) END, E'\n' ORDER BY position)
               FILTER (WHERE st.avg_width IS NULL AND coalesce(source.attstattarget, own.attstattarget) = 0) AS to_be_analyzed
    FROM index
    CROSS JOIN LATERAL generate_series(1, index.indnatts) AS position
    JOIN pg_attribute own ON own.attrelid = index.indexrelid AND own.attnum = position
    LEFT JOIN pg_attribute source ON source.attrelid = index.indrelid AND source.attnum = index.numbers[position - 1]
        AND source.attnum <> 0
    LEFT JOIN LATERAL (
        SELECT p.null_frac, p.avg_width, p.n_distinct FROM pg_stats p
        WHERE CASE WHEN source.attname IS NULL THEN (p.schemaname, p.tablename, p.attname) = (index.nspname, index.relname, own.attname)
                   ELSE (p.schemaname, p.tablename, p.attname) = (index.table_schema, index.table_name, source.attname) END
        ORDER BY p.inherited LIMIT 1
    ) AS st ON true
    GROUP BY index.indexrelid
)
SELECT index.indexrelid::bigint AS oid, quote_ident(nspname) || '.' || quote_ident(relname) AS name,
       quote_ident(table_schema) || '.' || quote_ident(table_name) AS table_name, bytes::bigint AS size_bytes,
       (fill * 100)::integer AS fill_factor, reltuples::bigint AS rows, analyzed_at, bytes::bigint AS read_bytes,
       CASE WHEN is_known AND NOT merges THEN
           (page * (1 + ceil(entries::numeric / greatest(1, floor((page - 40) * fill / entry_bytes)))))::bigint
       END AS needed_bytes,
       CASE WHEN is_known AND merges THEN
           (page * (1 + ceil((distinct_entries * entry_bytes + 6 * entries::numeric) / ((page - 40) * fill))))::bigint
       END AS least_bytes, to_be_analyzed
FROM index
JOIN entry USING (indexrelid)
CROSS JOIN LATERAL (
    SELECT (4 + CASE WHEN empty THEN 16 ELSE 8 END + 8 * ceil(data / 8))::numeric AS entry_bytes,
           NOT is_na AND reltuples >= 0 AS is_known,
           coalesce(merging AND equal_is_identical AND 2 * distinct_entries <= entries::numeric, false) AS merges
) AS width
ORDER BY bytes DESC, name;

-- statement: tables
-- Tables and the size that their rows need by the planner's statistics: a row is a header of 23 bytes and a bit per
-- column where columns may be empty, aligned to 8 bytes, its data aligned to 8 bytes, and a line pointer of 4 bytes; a
-- page has a header of 24 bytes. The padding between columns is left out, so the estimate is a little high. A virtual
-- generated column (PostgreSQL 18) is an empty one, of which there are no statistics.
WITH wide AS (
    SELECT c.oid, n.nspname, c.relname, c.reltuples, pg_relation_size(c.oid) AS bytes,
           greatest(0, 1 - c.relallvisible / nullif(c.relpages, 0)::numeric) AS unsure_share,
           current_setting('block_size')::numeric AS page,
           coalesce(substring(array_to_string(c.reloptions, ' ') FROM 'fillfactor=([0-9]+)')::numeric, 100) / 100 AS fill,
           greatest(c.reltuples, s.n_live_tup) AS live, greatest(s.last_analyze, s.last_autoanalyze) AS analyzed_at
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
        AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_toast%%'
    JOIN pg_am am ON am.oid = c.relam AND am.amname = 'heap'
    LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND pg_relation_size(c.oid) >= %(minimum_bytes)s
), row AS (
    SELECT wide.oid, count(*) AS columns, coalesce(sum((1 - st.null_frac) * st.avg_width), 0) AS data,
           coalesce(bool_or(st.null_frac > 0 OR a.attgenerated = 'v'), false) AS empty,
           bool_or(a.attgenerated <> 'v' AND (st.avg_width IS NULL OR a.atttypid = 'name'::regtype)) AS is_na,
           string_agg(format('ALTER TABLE %%I.%%I ALTER COLUMN %%I SET STATISTICS -1;', wide.nspname, wide.relname, a.attname),
                      E'\n' ORDER BY a.attnum)
               FILTER (WHERE st.avg_width IS NULL AND a.attstattarget = 0 AND a.attgenerated <> 'v') AS to_be_analyzed
    FROM wide
    JOIN pg_attribute a ON a.attrelid = wide.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN LATERAL (
        SELECT p.null_frac, p.avg_width FROM pg_stats p
        WHERE (p.schemaname, p.tablename, p.attname) = (wide.nspname, wide.relname, a.attname)
        ORDER BY p.inherited LIMIT 1
    ) AS st ON true
    GROUP BY wide.oid
)
SELECT oid::bigint AS oid, quote_ident(nspname) || '.' || quote_ident(relname) AS name,
       quote_ident(nspname) || '.' || quote_ident(relname) AS table_name, bytes::bigint AS size_bytes,
       (fill * 100)::integer AS fill_factor, reltuples::bigint AS rows, analyzed_at,
       (bytes * coalesce(unsure_share, 1))::bigint AS read_bytes,  -- what is measured of it: pages that may hold dead rows
       CASE WHEN NOT is_na AND reltuples >= 0 THEN
           (page * ceil(live::numeric / greatest(1, floor((page - 24) * fill / row_bytes))))::bigint
       END AS needed_bytes, NULL::bigint AS least_bytes, to_be_analyzed
FROM wide
JOIN row USING (oid)
CROSS JOIN LATERAL (
    SELECT (4 + 8 * ceil((23 + CASE WHEN empty THEN (columns + 7) / 8 ELSE 0 END)::numeric / 8)
              + 8 * ceil(data / 8))::numeric AS row_bytes
) AS width
ORDER BY bytes DESC, name;

-- statement: toast
-- Where tables keep what is too long for a page. There are no statistics of it: its bloat can be measured only.
SELECT toast.oid::bigint AS oid, 'TOAST of ' || own.name AS name, own.name AS table_name,
       pg_relation_size(toast.oid)::bigint AS size_bytes, 100 AS fill_factor, toast.reltuples::bigint AS rows,
       NULL::timestamptz AS analyzed_at,
       (pg_relation_size(toast.oid)
           * greatest(0, 1 - coalesce(toast.relallvisible / nullif(toast.relpages, 0)::numeric, 0)))::bigint AS read_bytes,
       NULL::bigint AS needed_bytes, NULL::bigint AS least_bytes, NULL AS to_be_analyzed
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_toast%%'
JOIN pg_class toast ON toast.oid = c.reltoastrelid
CROSS JOIN LATERAL (SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name) AS own
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND pg_relation_size(toast.oid) >= %(minimum_bytes)s
ORDER BY size_bytes DESC, name;

-- statement: measuring
-- The schema of pgstattuple (its name), and whether this role may call its functions.
SELECT n.nspname,
       bool_and(has_function_privilege(p.oid, 'EXECUTE')) AND has_schema_privilege(n.oid, 'USAGE')
FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace
JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_proc'::regclass
JOIN pg_proc p ON p.oid = d.objid AND p.proname IN ('pgstatindex', 'pgstattuple_approx')
WHERE e.extname = 'pgstattuple'
GROUP BY n.nspname, n.oid;
