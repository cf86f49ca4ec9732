-- Views over the lines of the platform's logs, for DuckDB. Each reads the files that the variable <kind>_paths lists.
-- Common columns: file (its place in that list, from 1), line, and slot: for a readable line the quarter of an hour it lies in (UTC seconds / 900; for
-- the error log, which carries no offset, local seconds / 900), absent for a broken line. The delimiter is a
-- sequence that no log contains, so a line is one value, whatever its quotes. Years lie from 1970 to 2999.

-- statement: access
-- nginx's combined format with the request time in seconds at its end. A readable line has exactly six quotes.
CREATE OR REPLACE TEMP VIEW access_line AS
WITH piece AS (
    SELECT CAST(list_position(getvariable('access_paths'), filename) AS SMALLINT) AS file, line, string_split(line, '"') AS part
    FROM read_csv(
        getvariable('access_paths'), columns = {'line': 'VARCHAR'}, delim = e'\x1f\x1e\x1f\x1e', quote = '',
        escape = '', comment = '', nullstr = e'\x1f\x1e\x1f', header = false, auto_detect = false, strict_mode = false, filename = true,
        max_line_size = 1000000, store_rejects = true, rejects_limit = 0, rejects_table = 'access_reject',
        rejects_scan = 'access_reject_scan'
    )
), checked AS (
    SELECT file, line, part,
           CASE WHEN len(part) = 7
                 AND regexp_full_match(part[3], ' [1-5][0-9]{2} ([0-9]{1,18}|-) ')
                 AND regexp_full_match(part[7], ' [0-9]{1,7}(\.[0-9]{1,6})?')
                 AND part[5] = ' '
                 AND regexp_full_match(part[1], '\x00*[^ \x00]+ [^ ]+ .*\[[0-9]{2}/[A-Z][a-z]{2}/(19[7-9][0-9]|2[0-9]{3}):[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}\] ')
                THEN substr(part[1], length(part[1]) - 27, 26)
           END AS stamp
    FROM piece
), timed AS (
    SELECT file, line, part,
           CAST(epoch(try_strptime(substr(stamp, 1, 20), '%d/%b/%Y:%H:%M:%S')) AS BIGINT)
               - CASE WHEN substr(stamp, 22, 5) = '+0000' THEN 0
                      ELSE CAST(substr(stamp, 22, 1) || '1' AS INTEGER)
                          * (CAST(substr(stamp, 23, 2) AS INTEGER) * 3600 + CAST(substr(stamp, 25, 2) AS INTEGER) * 60)
                 END AS instant
    FROM checked
)
SELECT file, line, instant, instant // 900 AS slot,
       split_part(part[2], ' ', 1) AS method,
       split_part(split_part(part[2], ' ', 2), '?', 1) AS path,
       try_cast(substr(part[3], 2, 3) AS SMALLINT) AS status,
       coalesce(try_cast(substr(part[3], 6) AS BIGINT), 0) AS bytes_sent,
       try_cast(part[7] AS DECIMAL(13, 6)) AS seconds
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
       CASE WHEN regexp_full_match(part[1], '(19[7-9][0-9]|2[0-9]{3})-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:?[0-9]{2})')
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
