-- Views over the lines of the platform's logs, for DuckDB. Each reads the files that the variable <kind>_paths lists.
-- Common columns: file (its place in that list, from 1) and slot: for a readable line the quarter of an hour it lies in
-- (UTC seconds / 900; for the error log, which carries no offset, local seconds / 900), absent for a broken line. Years
-- lie from 1970 to 2999. The delimiter of the application's and the error log is a sequence that no log contains, so a
-- line is one value, whatever its quotes.

-- statement: bucket_of
-- The bucket of a response time in the histograms of include/reporting/latency.py.
CREATE OR REPLACE TEMP MACRO bucket_of(microseconds) AS CASE
    WHEN microseconds = 0 THEN -32768
    ELSE CAST(ceil(ln(microseconds / 1e6::DOUBLE) / ln(1.01::DOUBLE / 0.99)) AS SMALLINT)
END;

-- statement: usual_hour
-- What most lines of the access log say is looked up in three small tables: the hours from $first to $last (none when
-- they are absent) behind a client without a name, the seconds of an hour with the offsets that are likely, and the
-- response times below ten seconds to the millisecond, with their buckets. All else is read in full, with the same
-- result.
CREATE OR REPLACE TEMP TABLE usual_hour AS
SELECT strftime(hour, ' - - [%d/%b/%Y:%H') AS text, CAST(epoch(hour) AS BIGINT) AS begins
FROM (
    SELECT unnest(generate_series(
        date_trunc('hour', CAST($first AS TIMESTAMP)), CAST($last AS TIMESTAMP), INTERVAL 1 HOUR
    )) AS hour
);

-- statement: usual_second
CREATE OR REPLACE TEMP TABLE usual_second AS
SELECT format(':{:02d}:{:02d} {}] ', second // 60, second % 60, o.written) AS text, second - o.seconds AS after
FROM range(3600) r(second), (
    SELECT unnest(CAST($written AS VARCHAR[])) AS written, unnest(CAST($seconds AS INTEGER[])) AS seconds
) o;

-- statement: usual_time
CREATE OR REPLACE TEMP TABLE usual_time AS
SELECT ' ' || (n // 1000) || '.' || right('00' || n % 1000, 3) AS text, n * 1000 AS microseconds,
       bucket_of(n * 1000) AS bucket
FROM range(10000) r(n);

-- statement: usual_answers
-- What an answer looks like by the digits of its size. Longer sizes are read in full.
SET VARIABLE usual_answers = (
    SELECT list(' [1-5][0-9][0-9] ' || repeat('[0-9]', n) || ' ' ORDER BY n) FROM range(1, 10) r(n)
);

-- statement: access
-- nginx's combined format with the request time in seconds at its end. A readable line has exactly six quotes, so the
-- reader of CSV cuts it into seven pieces; a missing piece is absent, an eighth or later one is surplus. The
-- referrer is not even looked at. usual_bucket is that of microseconds where it was looked up. broken is the beginning
-- of a broken line, up to its third quote.
CREATE OR REPLACE TEMP VIEW access_line AS
WITH piece AS (
    SELECT CAST(list_position(getvariable('access_paths'), filename) AS SMALLINT) AS file, head, request, answer, gap, agent, tail, surplus
    FROM read_csv(
        getvariable('access_paths'), columns = {
            'head': 'VARCHAR', 'request': 'VARCHAR', 'answer': 'VARCHAR', 'referrer': 'VARCHAR', 'gap': 'VARCHAR',
            'agent': 'VARCHAR', 'tail': 'VARCHAR', 'surplus': 'VARCHAR'
        }, delim = '"', null_padding = true, quote = '', escape = '', comment = '', nullstr = e'\x1f\x1e\x1f',
        header = false, auto_detect = false, strict_mode = false, filename = true, buffer_size = 8000000,
        max_line_size = 1000000, store_rejects = true, rejects_limit = 0, rejects_table = 'access_reject',
        rejects_scan = 'access_reject_scan'
    )
), looked_up AS (
    SELECT p.*, begins + after AS usual_instant, t.microseconds AS usual_microseconds, t.bucket AS usual_bucket
    FROM piece p
    LEFT JOIN usual_hour h ON h.text = substr(head, -34, 20)
    LEFT JOIN usual_second s ON s.text = substr(head, -14, 14)
    LEFT JOIN usual_time t ON t.text = tail
), checked AS (
    -- Whether a line is whole but for its head, which then is usual or not.
    SELECT *,
           CASE WHEN surplus IS NULL AND gap = ' '
                 -- A pattern for the length of the answer is tried first: it is cheaper than a regular expression.
                 AND (answer GLOB getvariable('usual_answers')[strlen(answer) - 6]
                      OR regexp_full_match(answer, ' [1-5][0-9]{2} ([0-9]{1,18}|-) '))
                 AND (usual_microseconds IS NOT NULL OR regexp_full_match(tail, ' [0-9]{1,7}(\.[0-9]{1,6})?'))
                THEN usual_instant IS NOT NULL AND strlen(head) > 34 AND strpos(head, ' ') = strlen(head) - 33
                     AND NOT contains(head, chr(0))
           END AS is_usual
    FROM looked_up
), stamped AS (
    SELECT *,
           CASE WHEN NOT is_usual AND regexp_full_match(head, '\x00*[^ \x00]+ [^ ]+ .*\[[0-9]{2}/[A-Z][a-z]{2}/(19[7-9][0-9]|2[0-9]{3}):[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}\] ')
                THEN substr(head, -28, 26)
           END AS stamp
    FROM checked
), timed AS (
    SELECT *,
           CASE WHEN is_usual THEN usual_instant ELSE
               CAST(epoch(try_strptime(substr(stamp, 1, 20), '%d/%b/%Y:%H:%M:%S')) AS BIGINT)
               - CASE WHEN substr(stamp, 22, 5) = '+0000' THEN 0
                      ELSE CAST(substr(stamp, 22, 1) || '1' AS INTEGER)
                          * (CAST(substr(stamp, 23, 2) AS INTEGER) * 3600 + CAST(substr(stamp, 25, 2) AS INTEGER) * 60)
                 END
           END AS instant
    FROM stamped
)
SELECT file, head, request, answer, agent, instant, instant // 900 AS slot,
       CASE WHEN instant IS NULL THEN substr(concat_ws('"', head, request, answer), 1, 300) END AS broken,
       CASE WHEN answer >= ' 4' AND instant IS NOT NULL THEN CAST(substr(answer, 2, 3) AS SMALLINT) END AS error_status,
       -- '-' is no number. What a broken line says here is not used.
       coalesce(try_cast(substr(answer, 6) AS BIGINT), 0) AS bytes_sent,
       -- 101: the time is how long the connection of another protocol, such as WebSocket, was open, not a response's.
       CASE WHEN substr(answer, 1, 5) = ' 101 ' THEN NULL
            WHEN usual_microseconds IS NOT NULL THEN usual_microseconds
            WHEN instant IS NOT NULL THEN CAST(CAST(tail AS DECIMAL(13, 6)) * 1000000 AS BIGINT) END AS microseconds,
       usual_bucket
FROM timed;

-- statement: application
-- One JSON object a line, with an ISO 8601 time that names its offset.
CREATE OR REPLACE TEMP VIEW application_line AS
WITH parsed AS (
    SELECT CAST(list_position(getvariable('application_paths'), filename) AS SMALLINT) AS file, line,
           CASE WHEN json_valid(line) AND ltrim(line, e' \t')[1] = '{'
                THEN json_extract_string(line, ['$.time', '$.level', '$.logger', '$.path', '$.exception'])
           END AS part
    FROM read_csv(
        getvariable('application_paths'), columns = {'line': 'VARCHAR'}, delim = e'\x1f\x1e\x1f\x1e', quote = '',
        escape = '', comment = '', nullstr = e'\x1f\x1e\x1f', header = false, auto_detect = false, strict_mode = false, filename = true,
        max_line_size = 1000000, store_rejects = true, rejects_limit = 0, rejects_table = 'application_reject',
        rejects_scan = 'application_reject_scan'
    )
)
SELECT file, line,
       CASE WHEN regexp_full_match(part[1], '(19[7-9][0-9]|2[0-9]{3})-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])')
            THEN CAST(floor(epoch(try_cast(part[1] AS TIMESTAMPTZ))) AS BIGINT)
       END AS instant,
       instant // 900 AS slot, part[2] AS level, part[3] AS logger, part[4] AS path, part[5] AS exception
FROM parsed;

-- statement: error
-- nginx's error log, in the server's local time. Lines that continue a message do not begin with a time.
CREATE OR REPLACE TEMP VIEW error_line AS
SELECT CAST(list_position(getvariable('error_paths'), filename) AS SMALLINT) AS file, line,
       CASE WHEN regexp_matches(line, '^(19[7-9][0-9]|2[0-9]{3})/[0-9]{2}/[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} \[[a-z]+\] ')
            THEN CAST(epoch(try_strptime(substr(line, 1, 19), '%Y/%m/%d %H:%M:%S')) AS BIGINT)
       END AS instant,
       instant // 900 AS slot,
       regexp_extract(line, '^[0-9/]{10} [0-9:]{8} \[([a-z]+)\]', 1) AS level,
       regexp_replace(substr(line, 21), '^\[[a-z]+\] ([0-9]+#[0-9]+: )?(\*[0-9]+ )?', '') AS message
FROM read_csv(
    getvariable('error_paths'), columns = {'line': 'VARCHAR'}, delim = e'\x1f\x1e\x1f\x1e', quote = '',
    escape = '', comment = '', nullstr = e'\x1f\x1e\x1f', header = false, auto_detect = false, strict_mode = false, filename = true,
    max_line_size = 1000000, store_rejects = true, rejects_limit = 0, rejects_table = 'error_reject',
    rejects_scan = 'error_reject_scan'
);

-- statement: rejected_files
-- Places of the files with lines that are no text or too long; DuckDB leaves such lines out.
SELECT DISTINCT list_position(getvariable('{kind}_paths'), s.file_path)
FROM {kind}_reject r JOIN {kind}_reject_scan s USING (scan_id, file_id);
