-- Aggregates the lines of log_lines.sql, for DuckDB. Parameters of a day: its first and last instant (UTC seconds), its
-- number (days since 1970-01-01), how many endpoints and kinds are kept.
-- Each <kind>_group statement is the one pass over the files: lines of the day in full, lines of other days by slot.

-- statement: macros
CREATE OR REPLACE TEMP MACRO identifier() AS
    '[0-9]+|0[xX][0-9a-fA-F]+|[0-9a-fA-F]{8,}|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}';
-- Opaque tokens are told by their looks, as log_lines.mask does: what opens a door must not stand in a table.
CREATE OR REPLACE TEMP MACRO is_identifier(segment) AS regexp_full_match(segment, identifier())
    OR (length(segment) >= 20 AND regexp_full_match(segment, '[A-Za-z0-9_+=-]*[0-9][A-Za-z0-9_+=-]*'))
    OR regexp_full_match(segment, '[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]{8,}){2}');
CREATE OR REPLACE TEMP MACRO endpoint_of(path) AS CASE
    WHEN path IS NULL OR path = '' THEN '-'
    -- Most paths hold nothing that looks like an identifier; this test is cheaper than to cut them.
    WHEN NOT regexp_matches(path, '/(?:[0-9]|[0-9a-fA-F]{8}|[A-Za-z0-9_.+=-]{20})') THEN substr(path, 1, 200)
    -- Nor does a path with nothing but whole numbers in it need more than this.
    WHEN regexp_full_match(path, '(?:/(?:[0-9]+|[^/0-9]{0,7}|[^/0-9a-fA-F][^/0-9]{0,18}))+')
        THEN substr(regexp_replace(path, '/[0-9]+', '/{id}', 'g'), 1, 200)
    -- What stands before the first slash is no segment.
    ELSE substr(array_to_string(list_transform(
        string_split(path, '/'),
        lambda segment, place: CASE WHEN place > 1 AND is_identifier(segment) THEN '{id}' ELSE segment END
    ), '/'), 1, 200)
END;
CREATE OR REPLACE TEMP MACRO method_in(request) AS split_part(request, ' ', 1);
CREATE OR REPLACE TEMP MACRO path_in(request) AS split_part(split_part(request, ' ', 2), '?', 1);
-- Whether a request is an identifier between two texts; where the second one is empty, whether it begins with the first.
CREATE OR REPLACE TEMP MACRO is_identifier_between(request, before, after) AS starts_with(request, before) AND (after = '' OR (
    ends_with(request, after) AND regexp_full_match(
        substr(request, length(before) + 1, length(request) - length(before) - length(after)), identifier()
    )
));
-- Whether a request is of the usual shape at a place, from 1.
CREATE OR REPLACE TEMP MACRO has_shape(request, place) AS
    is_identifier_between(request, getvariable('usual_befores')[place], getvariable('usual_afters')[place]);
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

-- statement: usual_text
-- Requests that were met at the beginning of a log, with their method, path and endpoint.
CREATE OR REPLACE TEMP TABLE usual_text AS
-- Materialized, or else the path's expression would be planned wherever the endpoint's names it.
WITH cut AS MATERIALIZED (
    SELECT request, method_in(request) AS method, path_in(request) AS path
    FROM (SELECT unnest(CAST($requests AS VARCHAR[])) AS request)
)
SELECT request, method, path, endpoint_of(path) AS endpoint FROM cut;

-- statement: usual_shape
-- Requests of a shape differ in one part of their path, which is an identifier, or else in their parameters, and have
-- one method and endpoint. The shapes that were met most often: what stands before the identifier and after it, or
-- before the parameters (nothing is after those). Paths that are left out have no shape.
CREATE OR REPLACE TEMP TABLE usual_shape AS
WITH cut AS MATERIALIZED (
    SELECT method, endpoint, regexp_extract(
        request, '^([A-Z]+ /(?:[^?]*?/)?)(?:' || identifier() || ')([/ ?].*)$', ['before', 'after']
    ) AS identified, regexp_extract(request, '^[A-Z]+ /[^? ]*\?') AS with_parameters
    FROM usual_text
), told AS MATERIALIZED (
    SELECT CASE WHEN identified.before <> '' THEN identified.before ELSE with_parameters END AS before,
           identified.after AS after, method, endpoint
    FROM cut
)
SELECT before, after, min(method) AS method, min(endpoint) AS endpoint
FROM told
WHERE before <> '' AND NOT EXISTS (SELECT 1 FROM excluded_path e WHERE starts_with(e.path, path_in(before)))
GROUP BY before, after
HAVING min(method) = max(method) AND min(endpoint) = max(endpoint)
ORDER BY count(*) DESC, before, after
LIMIT 8;

-- statement: usual_befores
SET VARIABLE usual_befores = (SELECT list(before ORDER BY rowid) FROM usual_shape);

-- statement: usual_afters
SET VARIABLE usual_afters = (SELECT list(after ORDER BY rowid) FROM usual_shape);

-- statement: usual_request
-- What is made of the requests that were met at the beginning of a log, and of those of a usual shape (which have its
-- place, from 1, and no text); it is looked up for lines with the same. Places of requests come after those of shapes.
CREATE OR REPLACE TEMP TABLE usual_request AS
SELECT CAST(rowid + 1 AS INTEGER) AS place, NULL AS text, method, endpoint, true AS counts FROM usual_shape
UNION ALL
SELECT CAST(101 + rowid AS INTEGER), request, method, endpoint, path NOT IN (SELECT path FROM excluded_path)
FROM usual_text;

-- statement: access_group
-- A group is kept narrow, for memory: slot is the hour of the day in lines of the day and a quarter of an hour in
-- others, absent in broken ones; place is that of a usual request, whose method and endpoint stand there; text is the
-- endpoint of other requests, and the beginning of a broken line; lines that do not count as traffic (our own probes
-- among them) have no method; status is kept of errors only, and requests without a response time have no bucket.
CREATE OR REPLACE TEMP TABLE access_group AS
-- An alias is only a repetition of its expression within one SELECT, so that each step has one of its own.
WITH placed AS (
    SELECT l.*, u.place AS usual_place, coalesce(instant >= $starts AND instant < $ends, false) AS of_day
    FROM access_line l
    LEFT JOIN usual_request u ON u.text = l.request
), may AS (
    SELECT *, of_day AND agent <> $probe AS may_count FROM placed
), met AS (
    SELECT *, CASE WHEN NOT may_count THEN NULL WHEN usual_place IS NOT NULL THEN usual_place
                   WHEN has_shape(request, 1) THEN 1 WHEN has_shape(request, 2) THEN 2
                   WHEN has_shape(request, 3) THEN 3 WHEN has_shape(request, 4) THEN 4
                   WHEN has_shape(request, 5) THEN 5 WHEN has_shape(request, 6) THEN 6
                   WHEN has_shape(request, 7) THEN 7 WHEN has_shape(request, 8) THEN 8 END AS place
    FROM may
), with_path AS (
    SELECT *, CASE WHEN may_count AND place IS NULL THEN path_in(request) END AS path FROM met
), told AS (
    SELECT *, coalesce(path NOT IN (SELECT path FROM excluded_path), false) AS counts FROM with_path
)
SELECT file, of_day, CAST(CASE WHEN of_day THEN (instant - $starts) // 3600 ELSE slot END AS INTEGER) AS slot, place,
       CASE WHEN counts THEN method_in(request) END AS method,
       CASE WHEN counts THEN endpoint_of(path) ELSE broken END AS text,
       CASE WHEN of_day THEN error_status END AS status,
       CASE WHEN NOT of_day OR microseconds IS NULL THEN NULL
            WHEN usual_bucket IS NOT NULL THEN usual_bucket
            ELSE bucket_of(microseconds) END AS bucket,
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

-- statement: request
-- The requests of the day as their groups write them, with the method (none of those that do not count as traffic), the
-- endpoint and the lines of each.
CREATE OR REPLACE TEMP TABLE request AS
WITH written AS (
    SELECT place, method, text, sum(lines) AS lines FROM access_group WHERE of_day GROUP BY ALL
)
SELECT w.place, w.method AS written, w.text, w.lines,
       CASE WHEN u.place IS NULL THEN w.method WHEN u.counts THEN u.method END AS method,
       CASE WHEN u.place IS NULL THEN w.text ELSE u.endpoint END AS endpoint
FROM written w LEFT JOIN usual_request u ON u.place = w.place;

-- statement: kept_endpoint
-- The endpoints with the most requests; equal ones in the order of their names. Errors' endpoints without requests last.
CREATE OR REPLACE TEMP TABLE kept_endpoint AS
SELECT endpoint FROM (
    SELECT text_of(endpoint) AS endpoint, lines FROM request WHERE method IS NOT NULL
    UNION ALL SELECT DISTINCT endpoint, 0 FROM application_group WHERE kind IS NOT NULL
    UNION ALL SELECT DISTINCT endpoint, 0 FROM error_group WHERE kind IS NOT NULL
)
WHERE endpoint <> '-'
GROUP BY endpoint
ORDER BY sum(lines) DESC, endpoint
LIMIT $largest;

-- statement: request_name
-- What the day's requests are called in the figures: their method and endpoint, and a number for both in their order.
CREATE OR REPLACE TEMP TABLE request_name AS
WITH told AS MATERIALIZED (
    SELECT place, written, text, method_of(method) AS method, text_of(endpoint) AS endpoint
    FROM request
    WHERE method IS NOT NULL
), named AS (
    SELECT t.place, t.written, t.text, t.method,
           CASE WHEN t.endpoint = '-' OR k.endpoint IS NOT NULL THEN t.endpoint ELSE '(other)' END AS endpoint
    FROM told t LEFT JOIN kept_endpoint k ON k.endpoint = t.endpoint
)
SELECT place, written, text, dense_rank() OVER (ORDER BY method, endpoint) AS name, method, endpoint FROM named;

-- statement: request_group
-- Numbers are grouped faster than texts; those come with the few groups that are left.
CREATE OR REPLACE TEMP TABLE request_group AS
SELECT g.slot AS hour, n.name, g.status, g.bucket, g.lines, g.microseconds, g.bytes_sent
FROM access_group g JOIN request_name n
    ON n.place IS NOT DISTINCT FROM g.place AND n.written IS NOT DISTINCT FROM g.method
    AND n.text IS NOT DISTINCT FROM g.text
WHERE g.of_day;

-- statement: figure_name
CREATE OR REPLACE TEMP TABLE figure_name AS SELECT DISTINCT name, method, endpoint FROM request_name;

-- statement: hours
SELECT (SELECT CAST(coalesce(sum(lines), 0) AS BIGINT) FROM request WHERE method IS NULL), list(DISTINCT slot)
FROM access_group
WHERE of_day;

-- statement: hourly_traffic
WITH counted AS (
    SELECT hour, name, CAST(sum(lines) AS BIGINT) AS requests,
           CAST(coalesce(sum(lines) FILTER (status >= 500), 0) AS BIGINT) AS errors,
           CAST(coalesce(sum(lines) FILTER (status < 500), 0) AS BIGINT) AS client_errors,
           CAST(coalesce(sum(microseconds), 0) AS DECIMAL(30, 0)) * 0.000001 AS seconds, CAST(sum(bytes_sent) AS HUGEINT) AS bytes_sent
    FROM request_group
    GROUP BY ALL
)
SELECT hour, method, endpoint, requests, errors, client_errors, seconds, bytes_sent
FROM counted JOIN figure_name USING (name)
ORDER BY hour, name;

-- statement: hourly_latency
-- Buckets and their requests as two lists: there are many more of them than of hours and endpoints.
WITH counted AS (
    SELECT hour, name, bucket, CAST(sum(lines) AS BIGINT) AS lines
    FROM request_group
    WHERE bucket IS NOT NULL
    GROUP BY ALL
), listed AS (
    SELECT hour, name, list(bucket ORDER BY bucket) AS buckets, list(lines ORDER BY bucket) AS lines
    FROM counted
    GROUP BY ALL
)
SELECT hour, method, endpoint, buckets, lines FROM listed JOIN figure_name USING (name) ORDER BY hour, name;

-- statement: daily_latency
SELECT bucket, CAST(sum(lines) AS BIGINT) FROM request_group WHERE bucket IS NOT NULL GROUP BY bucket;

-- statement: daily_error
-- Of each log at most as many kinds as endpoints are kept, those with the most errors.
WITH failed AS (
    SELECT status, name, sum(lines) AS lines FROM request_group WHERE status IS NOT NULL GROUP BY ALL
), told AS (
    SELECT 'access' AS source, 'HTTP ' || status AS kind, endpoint, lines FROM failed JOIN figure_name USING (name)
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
