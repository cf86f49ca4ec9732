-- Statements of snapshots.py, each under its name.

-- statement: record
INSERT INTO ops.platform_snapshot (run_id, month, taken_at, database_name, server_version, system_identifier,
                                   next_transaction, next_multixact, counters_since, unreadable)
VALUES (%(run_id)s, %(month)s, %(taken_at)s, %(database_name)s, %(server_version)s, %(system_identifier)s,
        %(next_transaction)s, %(next_multixact)s, %(counters_since)s, %(unreadable)s)
ON CONFLICT (run_id) DO NOTHING
RETURNING platform_snapshot_id;

-- statement: of_run
SELECT {columns}
FROM ops.platform_snapshot s WHERE run_id = %(run_id)s;

-- statement: up_to
-- The same cluster only: another one has counters of its own. A cluster that cannot be told apart is taken as the same.
SELECT {columns}
FROM ops.platform_snapshot s
JOIN ops.platform_snapshot this ON this.platform_snapshot_id = %(id)s
WHERE s.database_name = this.database_name
  AND coalesce(s.system_identifier = this.system_identifier, true)
  AND s.taken_at BETWEEN this.taken_at - make_interval(days => %(days)s) AND this.taken_at
ORDER BY s.taken_at, s.platform_snapshot_id;

-- statement: to_compare_with
SELECT {columns}
FROM ops.platform_snapshot s
JOIN ops.platform_snapshot this ON this.platform_snapshot_id = %(id)s
WHERE s.database_name = this.database_name AND s.platform_snapshot_id <> this.platform_snapshot_id
  AND (s.month < this.month OR (s.month = this.month AND s.taken_at < this.taken_at))
ORDER BY s.month < this.month DESC, s.month DESC, s.taken_at
LIMIT 1;

-- statement: changes
SELECT coalesce(a.kind, b.kind), coalesce(a.name, b.name), b.definition, a.definition
FROM (SELECT kind, name, definition FROM ops.platform_definition WHERE platform_snapshot_id = %(before)s) AS b
FULL JOIN (SELECT kind, name, definition FROM ops.platform_definition WHERE platform_snapshot_id = %(after)s) AS a
    ON a.kind = b.kind AND a.name = b.name
WHERE a.definition IS DISTINCT FROM b.definition
ORDER BY 1, 2;

-- statement: old
SELECT count(*) FROM ops.platform_snapshot AS s
WHERE taken_at < %(before)s
  AND taken_at < (SELECT max(taken_at) FROM ops.platform_snapshot WHERE database_name = s.database_name);

-- statement: forget
DELETE FROM ops.platform_snapshot AS s
WHERE taken_at < %(before)s
  AND taken_at < (SELECT max(taken_at) FROM ops.platform_snapshot WHERE database_name = s.database_name);

-- statement: old_definitions
-- The newest month of a database is compared with the one before it, however long ago that was.
SELECT count(*) FROM ops.platform_snapshot AS s
WHERE taken_at < %(before)s
  AND EXISTS (SELECT FROM ops.platform_definition WHERE platform_snapshot_id = s.platform_snapshot_id)
  AND (SELECT count(DISTINCT later.month) FROM ops.platform_snapshot AS later
       WHERE later.database_name = s.database_name AND later.month > s.month) >= 2;

-- statement: forget_definitions
DELETE FROM ops.platform_definition AS d USING ops.platform_snapshot AS s
WHERE d.platform_snapshot_id = s.platform_snapshot_id AND s.taken_at < %(before)s
  AND (SELECT count(DISTINCT later.month) FROM ops.platform_snapshot AS later
       WHERE later.database_name = s.database_name AND later.month > s.month) >= 2;

-- statement: number_of_definitions
SELECT kind, count(*) FROM ops.platform_definition WHERE platform_snapshot_id = %(id)s GROUP BY kind;

-- statement: table_sizes
SELECT table_name, bytes, estimated_rows, rows_inserted, rows_updated, rows_deleted
FROM ops.platform_table WHERE platform_snapshot_id = %(id)s;
