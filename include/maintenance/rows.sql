-- Statements of rows.py, each under its name. {braces} are put in as quoted names by psycopg.sql.
-- The time column decides what is old; infinitely old rows have no time and stay.

-- statement: count
SELECT count(*) AS rows,
       count(*) FILTER (WHERE {time} < %(cut_off)s AND {time} > '-infinity') AS rows_older,
       min({time}) FILTER (WHERE {time} < %(cut_off)s AND {time} > '-infinity') AS oldest,
       max({time}) FILTER (WHERE {time} < %(cut_off)s AND {time} > '-infinity') AS newest
FROM {table};

-- statement: next_batch
-- Sorted by the columns themselves, not by their texts of the same names.
SELECT {texts}, {row_hash}, {time}
FROM {table} AS source
WHERE {time} < %(cut_off)s AND {time} > '-infinity'
ORDER BY source.{time}, source.{key}
LIMIT %(batch_rows)s;

-- statement: find
SELECT {row_hash}
FROM {table}
WHERE {key} = ANY (%(keys)s::text[]::{key_type}[]) AND {time} BETWEEN %(first)s AND %(last)s;

-- statement: delete
DELETE FROM {table}
WHERE {key} = ANY (%(keys)s::text[]::{key_type}[]) AND {time} BETWEEN %(first)s AND %(last)s
RETURNING {row_hash};
