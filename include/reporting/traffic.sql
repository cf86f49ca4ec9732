-- Aggregates the lines of log_lines.sql, for DuckDB. Parameters of a day: its first and last instant (UTC seconds), its
-- number (days since 1970-01-01), how many endpoints and kinds are kept.
-- Each <kind>_group statement is the one pass over the files: lines of the day in full, lines of other days by slot.

-- statement: macros
CREATE OR REPLACE TEMP MACRO endpoint_of(path) AS CASE
    WHEN path IS NULL OR path = '' THEN '-'
    -- Most paths hold nothing that looks like an identifier; this test is cheaper than a replacement.
    WHEN NOT regexp_matches(path, '/(?:[0-9]|[0-9a-fA-F]{8})') THEN substr(path, 1, 200)
    -- Nor does a path with nothing but whole numbers in it need more than this.
    WHEN regexp_full_match(path, '(?:/(?:[0-9]+|[^/0-9]{0,7}|[^/0-9a-fA-F][^/0-9]*))+')
        THEN substr(regexp_replace(path, '/[0-9]+', '/{id}', 'g'), 1, 200)
    -- Meanwhile each segment has slashes of its own on both sides, so that neighbours do not compete for one.
    ELSE substr(left(replace(regexp_replace(
        replace(path, '/', '//') || '/',
        '/(?:[0-9]+|0[xX][0-9a-fA-F]+|[0-9a-fA-F]{8,}|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})/',
        '/{id}/', 'g'
    ), '//', '/'), -1), 1, 200)
END;
CREATE OR REPLACE TEMP MACRO method_in(request) AS split_part(request, ' ', 1);
CREATE OR REPLACE TEMP MACRO path_in(request) AS split_part(split_part(request, ' ', 2), '?', 1);
CREATE OR REPLACE TEMP MACRO method_of(method) AS CASE
    WHEN method IN ('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'CONNECT', 'TRACE') THEN method
    ELSE '(other)'
END;
CREATE OR REPLACE TEMP MACRO without_numbers(message) AS
    substr(trim(regexp_replace(regexp_replace(message, '"[^"]*"', '"..."', 'g'), '(0[xX])?[0-9]+', '#', 'g')), 1, 200);
CREATE OR REPLACE TEMP MACRO text_of(value) AS regexp_replace(value, '[\x00-\x1f]+', ' ', 'g');

-- statement: excluded_paths
CREATE OR REPLACE TEMP TABLE excluded_path AS
SELECT DISTINCT unnest([path, rtrim(path, '/'), rtrim(path, '/') || '/']) AS path FROM (SELECT unnest($excluded) AS path);

-- statement: usual_request
-- What is made of the requests that were met often at the beginning of a log; it is looked up for lines with the same.
CREATE OR REPLACE TEMP TABLE usual_request AS
SELECT request, method_in(request) AS method, endpoint_of(path_in(request)) AS endpoint,
       path_in(request) NOT IN (SELECT path FROM excluded_path) AS counts
FROM (SELECT unnest(CAST($requests AS VARCHAR[])) AS request);

-- statement: access_group
-- A group is kept narrow, for memory: slot is the hour of the day in lines of the day and a quarter of an hour in
-- others, absent in broken ones; text is the endpoint of a request, and the beginning of a broken line; lines that do
-- not count as traffic have no method; status is kept of errors only.
CREATE OR REPLACE TEMP TABLE access_group AS
WITH looked_up AS (
    SELECT l.*, u.method AS usual_method, u.endpoint AS usual_endpoint, u.counts AS usual_counts,
           coalesce(instant >= $starts AND instant < $ends, false) AS of_day,
           CASE WHEN of_day AND u.counts IS NULL THEN path_in(l.request) END AS path
    FROM access_line l LEFT JOIN usual_request u ON u.request = l.request
), told AS (
    SELECT *, of_day AND coalesce(usual_counts, path NOT IN (SELECT path FROM excluded_path)) AS counts FROM looked_up
)
SELECT file, of_day, CAST(CASE WHEN of_day THEN (instant - $starts) // 3600 ELSE slot END AS INTEGER) AS slot,
       CASE WHEN counts THEN
           CASE WHEN usual_method IS NOT NULL THEN usual_method ELSE method_in(request) END
       END AS method,
       CASE WHEN counts THEN
           CASE WHEN usual_endpoint IS NOT NULL THEN usual_endpoint ELSE endpoint_of(path) END
            ELSE broken
       END AS text,
       CASE WHEN counts THEN error_status END AS status,
       CASE WHEN counts THEN
           CASE WHEN microseconds = 0 THEN -32768
                ELSE CAST(ceil(ln(microseconds / 1e6::DOUBLE) / ln(1.01::DOUBLE / 0.99)) AS SMALLINT) END
       END AS bucket,
       count(*) AS lines, sum(microseconds) AS microseconds, sum(bytes_sent) AS bytes_sent
FROM told
GROUP BY ALL;

-- statement: application_group
-- slot and text as above, with slot 0 in lines of the day; kind and endpoint are those of the day's errors.
CREATE OR REPLACE TEMP TABLE application_group AS
WITH told AS (
    SELECT file, line, slot, coalesce(instant >= $starts AND instant < $ends, false) AS of_day,
           of_day AND coalesce(upper(level), '') IN ('ERROR', 'CRITICAL', 'FATAL', 'ALERT', 'EMERGENCY') AS is_error,
           exception, logger, level, path
    FROM application_line
)
SELECT file, of_day, CASE WHEN of_day THEN 0 ELSE slot END AS slot,
       CASE WHEN slot IS NULL THEN substr(line, 1, 300) END AS text,
       CASE WHEN is_error THEN
           -- The class of an exception: Python's traceback names it in its last line, others in the first.
           substr(text_of(coalesce(
               nullif(trim(split_part(CASE
                   WHEN starts_with(ltrim(exception), 'Traceback')
                   THEN regexp_extract(regexp_replace(exception, '\s+$', ''), '[^\n]*$')
                   ELSE split_part(ltrim(exception), e'\n', 1)
               END, ':', 1)), ''),
               concat_ws(' ', nullif(logger, ''), upper(level))
           )), 1, 200)
       END AS kind,
       CASE WHEN is_error THEN text_of(endpoint_of(split_part(path, '?', 1))) END AS endpoint,
       count(*) AS lines
FROM told
GROUP BY ALL;

-- statement: error_group
CREATE OR REPLACE TEMP TABLE error_group AS
WITH told AS (
    SELECT file, line, slot, coalesce(instant // 86400 = $day_number, false) AS of_day,
           of_day AND level IN ('error', 'crit', 'alert', 'emerg') AS is_error, message
    FROM error_line
)
SELECT file, of_day, CASE WHEN of_day THEN 0 ELSE slot END AS slot,
       CASE WHEN slot IS NULL THEN substr(line, 1, 300) END AS text,
       CASE WHEN is_error THEN
           coalesce(nullif(text_of(without_numbers(regexp_replace(
               message, ', (client|server|request|upstream|host): .*$', ''
           ))), ''), '(no message)')
       END AS kind,
       CASE WHEN is_error THEN
           text_of(endpoint_of(split_part(regexp_extract(message, ', request: "[^ "]+ ([^ "]*)', 1), '?', 1)))
       END AS endpoint,
       count(*) AS lines
FROM told
GROUP BY ALL;

-- statement: lines_by_slot
SELECT file, slot, CAST(sum(lines) AS BIGINT) FROM {group} WHERE slot IS NOT NULL AND NOT of_day GROUP BY ALL;

-- statement: lines_of_day
SELECT file, CAST(sum(lines) AS BIGINT) FROM {group} WHERE of_day GROUP BY ALL;

-- statement: suspects
SELECT file, text FROM {group} WHERE slot IS NULL AND NOT of_day GROUP BY ALL LIMIT {limit};

-- statement: kept_endpoints
-- The endpoints with the most requests; equal ones in the order of their names. Errors' endpoints without requests last.
CREATE OR REPLACE TEMP TABLE kept_endpoint AS
SELECT endpoint FROM (
    SELECT text_of(text) AS endpoint, sum(lines) AS lines FROM access_group WHERE method IS NOT NULL GROUP BY text
    UNION ALL SELECT DISTINCT endpoint, 0 FROM application_group WHERE kind IS NOT NULL
    UNION ALL SELECT DISTINCT endpoint, 0 FROM error_group WHERE kind IS NOT NULL
)
WHERE endpoint <> '-'
GROUP BY endpoint
ORDER BY sum(lines) DESC, endpoint
LIMIT $largest;

-- statement: requests
CREATE OR REPLACE TEMP TABLE request_group AS
WITH named AS (
    SELECT t.text, CASE WHEN text_of(t.text) = '-' OR k.endpoint IS NOT NULL THEN text_of(t.text) ELSE '(other)' END AS endpoint
    FROM (SELECT DISTINCT text FROM access_group WHERE method IS NOT NULL) t
    LEFT JOIN kept_endpoint k ON k.endpoint = text_of(t.text)
)
SELECT g.slot AS hour, method_of(g.method) AS method, n.endpoint, g.status, g.bucket,
       CAST(sum(g.lines) AS BIGINT) AS lines, sum(g.microseconds) AS microseconds, sum(g.bytes_sent) AS bytes_sent
FROM access_group g JOIN named n USING (text)
WHERE g.method IS NOT NULL
GROUP BY ALL;

-- statement: hours
SELECT CAST(coalesce(sum(lines) FILTER (method IS NULL), 0) AS BIGINT), list(DISTINCT slot)
FROM access_group
WHERE of_day;

-- statement: hourly_traffic
SELECT hour, method, endpoint, CAST(sum(lines) AS BIGINT),
       CAST(coalesce(sum(lines) FILTER (status >= 500), 0) AS BIGINT),
       CAST(coalesce(sum(lines) FILTER (status < 500), 0) AS BIGINT),
       CAST(sum(microseconds) AS DECIMAL(30, 0)) * 0.000001, CAST(sum(bytes_sent) AS HUGEINT)
FROM request_group
GROUP BY ALL
ORDER BY ALL;

-- statement: hourly_latency
SELECT hour, method, endpoint, bucket, CAST(sum(lines) AS BIGINT) FROM request_group GROUP BY ALL ORDER BY ALL;

-- statement: daily_error
-- Of each log at most as many kinds as endpoints are kept, those with the most errors.
WITH told AS (
    SELECT 'access' AS source, 'HTTP ' || status AS kind, endpoint, lines FROM request_group WHERE status IS NOT NULL
    UNION ALL SELECT 'application', kind, endpoint, lines FROM application_group WHERE kind IS NOT NULL
    UNION ALL SELECT 'error', kind, endpoint, lines FROM error_group WHERE kind IS NOT NULL
), ranked AS (
    SELECT source, kind, row_number() OVER (PARTITION BY source ORDER BY sum(lines) DESC, kind) AS place
    FROM told
    GROUP BY source, kind
)
SELECT t.source,
       CASE WHEN r.place <= $largest THEN t.kind ELSE '(other)' END AS kind,
       CASE WHEN t.endpoint IN ('-', '(other)') OR k.endpoint IS NOT NULL THEN t.endpoint ELSE '(other)' END AS endpoint,
       CAST(sum(t.lines) AS BIGINT)
FROM told t JOIN ranked r USING (source, kind) LEFT JOIN kept_endpoint k ON k.endpoint = t.endpoint
GROUP BY ALL
ORDER BY ALL;
