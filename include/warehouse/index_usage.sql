-- Statements of index_usage.py, each under its name.

-- statement: remove
DELETE FROM ops.index_usage
WHERE run_id = %(run_id)s OR taken_at < statement_timestamp() - make_interval(days => %(keep_days)s);

-- statement: record
INSERT INTO ops.index_usage
    (run_id, node, index_oid, server, index_name, taken_at, scans, last_scan_at, statistics_since)
SELECT %(run_id)s, node, index_oid, %(server)s, index_name, %(taken_at)s, scans, last_scan_at, statistics_since
FROM unnest(%(nodes)s::text[], %(oids)s::bigint[], %(names)s::text[], %(scans)s::bigint[],
            %(last_scans)s::timestamptz[], %(since)s::timestamptz[])
    AS given (node, index_oid, index_name, scans, last_scan_at, statistics_since);

-- statement: idle
-- Since when an index has not been scanned on a node: since its last scan where the server tells it; never scanned,
-- since the statistics began; otherwise since the earliest reading of these statistics with as many scans as now.
-- It is known since the first reading on any node. A scan before that proves nothing: after a promotion another server
-- had the work until then.
SELECT now.index_oid, now.index_name, now.node, now.scans, now.statistics_since,
       CASE WHEN now.last_scan_at IS NOT NULL THEN now.last_scan_at
            WHEN now.scans = 0 THEN now.statistics_since
            ELSE (SELECT min(earlier.taken_at) FROM ops.index_usage earlier
                  WHERE earlier.server = now.server AND earlier.index_oid = now.index_oid AND earlier.node = now.node
                    AND earlier.scans = now.scans AND earlier.taken_at >= now.statistics_since) END AS idle_since,
       (SELECT min(seen.taken_at) FROM ops.index_usage seen
        WHERE seen.server = now.server AND seen.index_oid = now.index_oid) AS known_since
FROM ops.index_usage now
WHERE now.run_id = %(run_id)s
ORDER BY now.index_oid, now.node;
