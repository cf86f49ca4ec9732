-- Statements of query_statistics.py, each under its name.

-- statement: remove
DELETE FROM ops.statement_snapshot
WHERE run_id = %(run_id)s OR taken_at < %(taken_at)s::timestamptz - make_interval(days => %(keep_days)s);

-- statement: snapshot
INSERT INTO ops.statement_snapshot (run_id, server, taken_at, statistics_since, evictions)
VALUES (%(run_id)s, %(server)s, %(taken_at)s, %(statistics_since)s, %(evictions)s);

-- statement: entries
INSERT INTO ops.statement_statistics
    (run_id, query_id, role_id, top_level, calls, seconds, rows_returned, blocks_hit, blocks_read, read_seconds,
     temporary_blocks, entry_since)
SELECT %(run_id)s, given.*
FROM unnest(%(query_id)s::bigint[], %(role_id)s::bigint[], %(top_level)s::boolean[], %(calls)s::bigint[],
            %(seconds)s::float8[], %(rows_returned)s::bigint[], %(blocks_hit)s::bigint[], %(blocks_read)s::bigint[],
            %(read_seconds)s::float8[], %(temporary_blocks)s::bigint[], %(entry_since)s::timestamptz[]) AS given;

-- statement: texts
INSERT INTO ops.statement_text (server, query_id, text, first_seen_at)
SELECT DISTINCT ON (query_id) %(server)s, query_id, text, %(taken_at)s
FROM unnest(%(query_id)s::bigint[], %(text)s::text[]) AS given (query_id, text)
ORDER BY query_id, text = %(lost)s, text
ON CONFLICT (server, query_id) DO UPDATE SET text = excluded.text WHERE statement_text.text = %(lost)s;

-- statement: forget_texts
DELETE FROM ops.statement_text t
WHERE NOT EXISTS (SELECT FROM ops.statement_statistics s JOIN ops.statement_snapshot USING (run_id)
                  WHERE s.query_id = t.query_id AND server = t.server);

-- statement: baseline
-- The newest reading of the same server that is old enough to be compared with.
SELECT base.run_id, base.taken_at
FROM ops.statement_snapshot now
JOIN ops.statement_snapshot base
    ON base.server = now.server AND base.run_id <> now.run_id
   AND base.taken_at <= now.taken_at - make_interval(days => %(days)s)
WHERE now.run_id = %(run_id)s
ORDER BY base.taken_at DESC LIMIT 1;

-- statement: period
-- What the entries counted between two readings. An entry counts from zero when the earlier reading does not have it,
-- when it began after that reading, when all were reset since, or when its counter went back.
WITH reading AS (
    SELECT base.run_id AS base_run_id, base.taken_at AS base_taken_at,
           base.run_id IS NULL OR coalesce(now.statistics_since > base.taken_at, false) AS from_zero
    FROM ops.statement_snapshot now
    LEFT JOIN ops.statement_snapshot base ON base.run_id = %(base)s
    WHERE now.run_id = %(run_id)s
), change AS (
    SELECT s.query_id,
           s.calls - factor.of_base * coalesce(b.calls, 0) AS calls,
           s.seconds - factor.of_base * coalesce(b.seconds, 0) AS seconds,
           s.rows_returned - factor.of_base * coalesce(b.rows_returned, 0) AS rows_returned,
           s.blocks_hit - factor.of_base * coalesce(b.blocks_hit, 0) AS blocks_hit,
           s.blocks_read - factor.of_base * coalesce(b.blocks_read, 0) AS blocks_read,
           s.read_seconds - factor.of_base * coalesce(b.read_seconds, 0) AS read_seconds,
           s.temporary_blocks - factor.of_base * coalesce(b.temporary_blocks, 0) AS temporary_blocks
    FROM reading
    JOIN ops.statement_statistics s ON s.run_id = %(run_id)s
    LEFT JOIN ops.statement_statistics b
        ON b.run_id = reading.base_run_id
       AND (b.query_id, b.role_id, b.top_level) = (s.query_id, s.role_id, s.top_level)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN reading.from_zero OR b.calls > s.calls OR coalesce(s.entry_since > reading.base_taken_at, false)
                    THEN 0 ELSE 1 END AS of_base
    ) AS factor
)
SELECT change.query_id, t.text, sum(change.calls)::bigint AS calls, greatest(sum(change.seconds), 0) AS seconds,
       sum(change.rows_returned)::bigint AS rows_returned, sum(change.blocks_hit)::bigint AS blocks_hit,
       sum(change.blocks_read)::bigint AS blocks_read, sum(change.read_seconds) AS read_seconds,
       sum(change.temporary_blocks)::bigint AS temporary_blocks
FROM change
LEFT JOIN ops.statement_text t
    ON t.query_id = change.query_id AND t.server = (SELECT server FROM ops.statement_snapshot WHERE run_id = %(run_id)s)
GROUP BY change.query_id, t.text
HAVING sum(change.calls) > 0
ORDER BY seconds DESC, change.query_id;

-- statement: completeness
-- What is lost between two readings: entries of the earlier one that are gone, and what they had counted by then.
SELECT now.taken_at, base.taken_at, now.statistics_since,
       coalesce(now.statistics_since > base.taken_at, false) AS was_reset,
       now.evictions - CASE WHEN base.run_id IS NULL OR now.statistics_since > base.taken_at THEN 0
                            ELSE base.evictions END AS evictions,
       (SELECT count(*) FROM ops.statement_statistics WHERE run_id = now.run_id) AS entries,
       (SELECT count(*) FROM ops.statement_statistics b
        WHERE b.run_id = base.run_id
          AND NOT EXISTS (SELECT FROM ops.statement_statistics s WHERE s.run_id = now.run_id
                          AND (s.query_id, s.role_id, s.top_level) = (b.query_id, b.role_id, b.top_level))) AS vanished
FROM ops.statement_snapshot now
LEFT JOIN ops.statement_snapshot base ON base.run_id = %(base)s
WHERE now.run_id = %(run_id)s;
