-- Statements of archives.py, each under its name.

-- statement: record_written
INSERT INTO ops.archive (archive_id, source_table, location, row_count, content_hash, file_sha256,
                         first_created_at, last_created_at, state, relation, replaces)
VALUES (%(archive_id)s, %(source_table)s, %(location)s, %(row_count)s, %(content_hash)s, %(file_sha256)s,
        %(first_created_at)s, %(last_created_at)s, 'written', %(relation)s, %(replaces)s);

-- statement: record_verified
UPDATE ops.archive SET state = 'verified', chain_number = %(number)s, manifest_sha256 = %(manifest)s
WHERE archive_id = %(id)s AND state = 'written';

-- statement: record_deleted
UPDATE ops.archive SET state = 'deleted', deleted_at = clock_timestamp()
WHERE archive_id = %(id)s AND state = 'verified';

-- statement: record_replaced
-- Both or none: where one of them is in another state nothing is changed.
UPDATE ops.archive
SET state = CASE archive_id WHEN %(id)s THEN 'deleted' ELSE 'withdrawing' END,
    deleted_at = CASE archive_id WHEN %(id)s THEN clock_timestamp() END
WHERE archive_id IN (%(id)s, %(replaced)s)
  AND (SELECT count(*) FROM ops.archive WHERE archive_id IN (%(id)s, %(replaced)s) AND state = 'verified') = 2;

-- statement: record_withdrawing
UPDATE ops.archive SET state = 'withdrawing' WHERE archive_id = %(id)s AND state = 'verified';

-- statement: record_withdrawn
UPDATE ops.archive SET state = 'withdrawn' WHERE archive_id = %(id)s AND state = 'withdrawing';

-- statement: forget
DELETE FROM ops.archive WHERE archive_id = %(id)s AND state = 'written';

-- statement: get
SELECT {columns}
FROM ops.archive WHERE archive_id = %(id)s;

-- statement: unfinished
SELECT {columns}
FROM ops.archive WHERE source_table = %(table)s AND state IN ('written', 'verified', 'withdrawing')
ORDER BY replaces IS NULL, first_created_at, archive_id;

-- statement: of_relation
SELECT {columns}
FROM ops.archive WHERE relation = %(relation)s AND state = ANY (%(states)s)
ORDER BY first_created_at, archive_id;

-- statement: chain
SELECT {columns}
FROM ops.archive WHERE source_table = %(table)s AND chain_number IS NOT NULL
ORDER BY chain_number;

-- statement: chain_end
SELECT chain_number, manifest_sha256
FROM ops.archive WHERE source_table = %(table)s AND chain_number IS NOT NULL
ORDER BY chain_number DESC LIMIT 1;

-- statement: deleted_since
SELECT count(*), coalesce(sum(row_count), 0)::bigint
FROM ops.archive WHERE source_table = %(table)s AND state = 'deleted' AND deleted_at >= %(since)s;

-- statement: unproven
-- Archives whose rows were deleted before a moment, and which no proven act has counted.
SELECT count(*), coalesce(sum(row_count), 0)::bigint
FROM ops.archive
WHERE source_table = %(table)s AND state = 'deleted' AND deleted_at < %(before)s
  AND deleted_at > coalesce((SELECT max(finished_at) FROM ops.maintenance_action
                             WHERE kind = 'prune' AND resource = %(table)s AND state = 'proven'), '-infinity');

-- statement: record_detaching
INSERT INTO ops.detached_partition (source_table, partition, bound, state)
VALUES (%(table)s, %(partition)s, %(bound)s, 'detaching')
ON CONFLICT (source_table, partition) WHERE state IN ('detaching', 'archived') DO NOTHING;

-- statement: change_partition
UPDATE ops.detached_partition
SET state = %(state)s, rows_archived = coalesce(%(rows)s, rows_archived), changed_at = clock_timestamp()
WHERE source_table = %(table)s AND partition = %(partition)s AND state IN ('detaching', 'archived');

-- statement: open_partitions
SELECT source_table, partition, bound, state, rows_archived
FROM ops.detached_partition WHERE source_table = %(table)s AND state IN ('detaching', 'archived')
ORDER BY began_at;

-- statement: restorable
-- Archives whose rows are in no table any more, made before a moment, the oldest first.
SELECT {columns}
FROM ops.archive WHERE state = 'deleted' AND created_at < %(before)s
ORDER BY created_at, archive_id;
