-- Statements of rows.py, each under its name. {braces} are put in as quoted names and conditions by psycopg.sql.
-- The time column decides what is old; infinitely old rows have no time and stay.

-- statement: snapshot
-- The oldest transaction that runs now: every row of an older one is visible to all statements from now on.
SELECT (pg_snapshot_xmin(pg_current_snapshot())::xid)::text;

-- statement: older
-- Counts up to a limit: the proof of a large table must not be one long transaction.
SELECT count(*) FROM (SELECT FROM {table} AS source WHERE {older} LIMIT %(limit)s) AS found;

-- statement: held
SELECT count(*) FROM (SELECT FROM {table} AS source WHERE {older} AND {held} LIMIT %(limit)s) AS found;

-- statement: free
SELECT count(*) FROM (SELECT FROM {table} AS source WHERE {older} AND {not_held} LIMIT %(limit)s) AS found;

-- statement: oldest
SELECT {time} FROM {table} AS source WHERE {older} ORDER BY {time} LIMIT 1;

-- statement: newest
SELECT {time} FROM {table} AS source WHERE {older} ORDER BY {time} DESC LIMIT 1;

-- statement: estimate
EXPLAIN (FORMAT json) SELECT FROM {table} AS source WHERE {older};

-- statement: keep_memory
-- glibc gives blocks above a threshold back to the system, so that each batch would wait for new pages, for a third of
-- its time. The threshold rises to the largest block that was ever freed, if that is below 32 MB. The series keeps the
-- planner from computing the block itself, and copying it.
SELECT octet_length(repeat(repeat(' ', 65536), n)) FROM generate_series(128, 128) AS n;

-- statement: first_rows
-- The next rows by time and key, each column as one value; how many of their fields are null.
SELECT count(*), {nulls}, {values}
FROM (
    SELECT * FROM {table} AS source
    WHERE {older} AND {not_held} AND {settled}
    ORDER BY {time}, {key} LIMIT %(rows)s
) AS source;

-- statement: next_rows
-- A comparison with -infinity would make the planner look for the lowest time in the index, past all deleted rows.
SELECT count(*), {nulls}, {values}
FROM (
    SELECT * FROM {table} AS source
    WHERE {not_newer} AND {not_held} AND {settled}
      AND {time} >= %(time)s::{time_type} AND ({time}, {key}) > (%(time)s::{time_type}, %(key)s::{key_type})
    ORDER BY {time}, {key} LIMIT %(rows)s
) AS source;

-- statement: new_columns
SELECT attname::text FROM pg_attribute
WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped AND attname::text <> ALL (%(columns)s::text[])

-- statement: delete_times
-- Nothing is deleted any more once the table has a column that the archives of this attempt have not: its values would
-- be nowhere. The lock of the statement keeps one from being added between the look and the deletion.
-- Deletes only rows that no transaction has written since the snapshot: those are the archived ones, unchanged.
-- All rows of these times belong to these stretches; the range lies within what was read, so that all are old.
DELETE FROM {table} AS source
WHERE {time} BETWEEN %(first_time)s::{time_type} AND %(last_time)s::{time_type} AND {not_held} AND {settled}
  AND NOT EXISTS ({new_columns});

-- statement: delete_range
-- The same where the rows of a time are spread over several stretches.
DELETE FROM {table} AS source
WHERE {time} BETWEEN %(first_time)s::{time_type} AND %(last_time)s::{time_type}
  AND ({time}, {key}) >= (%(first_time)s::{time_type}, %(first_key)s::{key_type})
  AND ({time}, {key}) <= (%(last_time)s::{time_type}, %(last_key)s::{key_type})
  AND {not_held} AND {settled} AND NOT EXISTS ({new_columns});

-- statement: delete_equal
-- Deletes the listed rows whose content is the archived one.
DELETE FROM {table} AS source
USING unnest(%(keys)s::text[]::{key_type}[], %(times)s::text[]::{time_type}[], %(sums)s::text[]) AS archived (key, time, sum)
WHERE source.{key} = archived.key AND source.{time} = archived.time AND {sum} = archived.sum AND {not_held}
  AND NOT EXISTS ({new_columns});

-- statement: still_there
-- Which of the listed rows are in the table, whatever their content. {same_time} is true where the key alone is unique.
SELECT archived.position
FROM unnest(%(keys)s::text[]::{key_type}[], %(times)s::text[]::{time_type}[]) WITH ORDINALITY
    AS archived (key, time, position)
JOIN {table} AS source ON source.{key} = archived.key AND {same_time};

-- statement: put_back
-- Inserts the rows of the temporary table and tells what was inserted, by the MD5 sums of its lines.
WITH inserted AS (
    INSERT INTO {table} AS source ({names}) OVERRIDING SYSTEM VALUE
    SELECT {names} FROM restored_rows
    RETURNING {sum} AS sum
)
SELECT count(*), coalesce(string_agg(sum, ''), '') FROM inserted;
