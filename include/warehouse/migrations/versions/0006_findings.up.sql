-- Findings of the checks that change nothing, and the weekly snapshots that they compare with.
-- Every table and column carries a comment: docs/warehouse.md is generated from them.

-- ------------------------------------------------------------------------------------------------- findings
CREATE TABLE ops.finding (
    finding_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id         text        NOT NULL,
    check_name     text        NOT NULL,
    resource       text        NOT NULL,
    outcome        text        NOT NULL CHECK (outcome IN ('ok', 'warning', 'critical', 'unknown', 'not_applicable')),
    summary        text        NOT NULL CHECK (summary <> ''),
    evidence       jsonb       NOT NULL DEFAULT '{}',
    remedy         text        NOT NULL DEFAULT '',
    estimated_gain jsonb,
    found_at       timestamptz NOT NULL,
    first_found_at timestamptz,
    first_run_id   text,
    UNIQUE (run_id, check_name, resource),
    CHECK ((outcome IN ('ok', 'not_applicable')) = (first_found_at IS NULL)),
    CHECK ((first_run_id IS NULL) = (first_found_at IS NULL)),
    CHECK (first_found_at <= found_at)
);
CREATE INDEX finding_check_name ON ops.finding (check_name, found_at DESC);
CREATE INDEX finding_resource ON ops.finding (check_name, resource, found_at DESC);
COMMENT ON TABLE  ops.finding IS 'What a check that changes nothing found in one run: one row per check, resource and run, with the numbers behind it and the remedy.';
COMMENT ON COLUMN ops.finding.finding_id IS 'Surrogate key.';
COMMENT ON COLUMN ops.finding.run_id IS 'The Airflow run (or command) that checked.';
COMMENT ON COLUMN ops.finding.check_name IS 'The check, for example unused_indexes.';
COMMENT ON COLUMN ops.finding.resource IS 'What was checked: a table, an index, a query, or the whole system.';
COMMENT ON COLUMN ops.finding.outcome IS 'ok, warning, critical, unknown (could not be checked; never counted as ok) or not_applicable.';
COMMENT ON COLUMN ops.finding.summary IS 'One sentence for people.';
COMMENT ON COLUMN ops.finding.evidence IS 'The numbers behind the outcome, with their units in their names.';
COMMENT ON COLUMN ops.finding.remedy IS 'SQL or command that a person can apply; never a secret.';
COMMENT ON COLUMN ops.finding.estimated_gain IS 'What the remedy is expected to bring, with units in the names (bytes, seconds_per_week); absent when there is no estimate.';
COMMENT ON COLUMN ops.finding.found_at IS 'When it was checked.';
COMMENT ON COLUMN ops.finding.first_found_at IS 'Since when it is open without a check in between that found it settled; absent for ok and not_applicable.';
COMMENT ON COLUMN ops.finding.first_run_id IS 'The run that found it first; equal to run_id when it is new.';

CREATE VIEW ops.latest_finding AS
SELECT f.finding_id, f.run_id, f.check_name, f.resource, f.outcome, f.summary, f.evidence, f.remedy, f.estimated_gain,
       f.found_at, f.first_found_at, f.first_run_id = f.run_id AS is_new
FROM ops.finding f
JOIN (SELECT DISTINCT ON (check_name) check_name, run_id FROM ops.finding
      ORDER BY check_name, found_at DESC, finding_id DESC) AS latest USING (check_name, run_id);
COMMENT ON VIEW   ops.latest_finding IS 'The findings of the latest run of every check: what the latest run did not find any more is not there.';
COMMENT ON COLUMN ops.latest_finding.finding_id IS 'The row of ops.finding.';
COMMENT ON COLUMN ops.latest_finding.run_id IS 'The latest run of the check.';
COMMENT ON COLUMN ops.latest_finding.check_name IS 'The check.';
COMMENT ON COLUMN ops.latest_finding.resource IS 'What was checked.';
COMMENT ON COLUMN ops.latest_finding.outcome IS 'ok, warning, critical, unknown or not_applicable.';
COMMENT ON COLUMN ops.latest_finding.summary IS 'One sentence for people.';
COMMENT ON COLUMN ops.latest_finding.evidence IS 'The numbers behind the outcome.';
COMMENT ON COLUMN ops.latest_finding.remedy IS 'SQL or command that a person can apply.';
COMMENT ON COLUMN ops.latest_finding.estimated_gain IS 'What the remedy is expected to bring.';
COMMENT ON COLUMN ops.latest_finding.found_at IS 'When it was checked.';
COMMENT ON COLUMN ops.latest_finding.first_found_at IS 'Since when it is open; absent for ok and not_applicable.';
COMMENT ON COLUMN ops.latest_finding.is_new IS 'Whether this run found it first; absent for ok and not_applicable.';

-- --------------------------------------------------------------------------------------- weekly index usage
CREATE TABLE ops.index_usage (
    run_id           text        NOT NULL,
    node             text        NOT NULL,
    index_oid        bigint      NOT NULL,
    server           text        NOT NULL,
    index_name       text        NOT NULL,
    taken_at         timestamptz NOT NULL,
    scans            bigint      NOT NULL CHECK (scans >= 0),
    last_scan_at     timestamptz,
    statistics_since timestamptz NOT NULL,
    PRIMARY KEY (run_id, node, index_oid)
);
CREATE INDEX index_usage_index ON ops.index_usage (server, index_oid, node, taken_at);
COMMENT ON TABLE  ops.index_usage IS 'How often every index of the platform had been scanned, on every server, at every review: tells since when one is unused.';
COMMENT ON COLUMN ops.index_usage.run_id IS 'The run that looked.';
COMMENT ON COLUMN ops.index_usage.node IS 'primary, or the connection of a replica: each server counts its own scans.';
COMMENT ON COLUMN ops.index_usage.index_oid IS 'The index; of a partitioned one the topmost.';
COMMENT ON COLUMN ops.index_usage.server IS 'System identifier of the cluster and name of the database.';
COMMENT ON COLUMN ops.index_usage.index_name IS 'Its schema-qualified name.';
COMMENT ON COLUMN ops.index_usage.taken_at IS 'When the run looked.';
COMMENT ON COLUMN ops.index_usage.scans IS 'Scans since the statistics began, of all its partitions.';
COMMENT ON COLUMN ops.index_usage.last_scan_at IS 'Its last scan; absent before PostgreSQL 16 and when there was none.';
COMMENT ON COLUMN ops.index_usage.statistics_since IS 'When this server''s statistics began: their last reset, or the crash that lost them.';

-- ---------------------------------------------------------------------------------- weekly query statistics
CREATE TABLE ops.statement_snapshot (
    run_id           text        PRIMARY KEY,
    server           text        NOT NULL,
    taken_at         timestamptz NOT NULL,
    statistics_since timestamptz,
    evictions        bigint
);
CREATE INDEX statement_snapshot_taken_at ON ops.statement_snapshot (server, taken_at DESC);
COMMENT ON TABLE  ops.statement_snapshot IS 'One reading of pg_stat_statements, which is never reset: a week is the difference of two readings.';
COMMENT ON COLUMN ops.statement_snapshot.run_id IS 'The run that read it.';
COMMENT ON COLUMN ops.statement_snapshot.server IS 'System identifier of the cluster and name of the database.';
COMMENT ON COLUMN ops.statement_snapshot.taken_at IS 'When it was read.';
COMMENT ON COLUMN ops.statement_snapshot.statistics_since IS 'When the statistics were reset last; absent before PostgreSQL 14.';
COMMENT ON COLUMN ops.statement_snapshot.evictions IS 'How often entries had been evicted for want of room; absent before PostgreSQL 14.';

CREATE TABLE ops.statement_statistics (
    run_id        text             NOT NULL REFERENCES ops.statement_snapshot ON DELETE CASCADE,
    query_id      bigint           NOT NULL,
    role_id       bigint           NOT NULL,
    top_level     boolean          NOT NULL,
    calls         bigint           NOT NULL,
    seconds       double precision NOT NULL,
    rows_returned bigint           NOT NULL,
    blocks_hit    bigint           NOT NULL,
    blocks_read   bigint           NOT NULL,
    read_seconds  double precision,
    temporary_blocks bigint        NOT NULL,
    entry_since   timestamptz,
    PRIMARY KEY (run_id, query_id, role_id, top_level)
);
COMMENT ON TABLE  ops.statement_statistics IS 'The counters of one entry of pg_stat_statements at one reading.';
COMMENT ON COLUMN ops.statement_statistics.run_id IS 'The reading.';
COMMENT ON COLUMN ops.statement_statistics.query_id IS 'The query''s identifier of the server.';
COMMENT ON COLUMN ops.statement_statistics.role_id IS 'The role that ran it (its oid).';
COMMENT ON COLUMN ops.statement_statistics.top_level IS 'Whether it was sent by a client and not run within a function.';
COMMENT ON COLUMN ops.statement_statistics.calls IS 'Executions.';
COMMENT ON COLUMN ops.statement_statistics.seconds IS 'Time of all executions.';
COMMENT ON COLUMN ops.statement_statistics.rows_returned IS 'Rows returned or changed.';
COMMENT ON COLUMN ops.statement_statistics.blocks_hit IS 'Shared blocks found in the server''s cache.';
COMMENT ON COLUMN ops.statement_statistics.blocks_read IS 'Shared blocks read from outside it.';
COMMENT ON COLUMN ops.statement_statistics.read_seconds IS 'Time of these reads; absent when the server does not measure it.';
COMMENT ON COLUMN ops.statement_statistics.temporary_blocks IS 'Blocks written to temporary files.';
COMMENT ON COLUMN ops.statement_statistics.entry_since IS 'When the entry began to count; absent before PostgreSQL 17.';

CREATE TABLE ops.statement_text (
    server        text        NOT NULL,
    query_id      bigint      NOT NULL,
    text          text        NOT NULL,
    first_seen_at timestamptz NOT NULL,
    PRIMARY KEY (server, query_id)
);
COMMENT ON TABLE  ops.statement_text IS 'Texts of the queries: normalised by the server, and what still looked like a value masked.';
COMMENT ON COLUMN ops.statement_text.server IS 'System identifier of the cluster and name of the database.';
COMMENT ON COLUMN ops.statement_text.query_id IS 'The query''s identifier of the server.';
COMMENT ON COLUMN ops.statement_text.text IS 'The text, cut off after 4000 characters; of a utility statement its first words only.';
COMMENT ON COLUMN ops.statement_text.first_seen_at IS 'When it was read first.';
