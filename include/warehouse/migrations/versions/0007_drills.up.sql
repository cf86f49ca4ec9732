-- Drills and their stages.
-- Every table and column carries a comment: docs/warehouse.md is generated from them.
CREATE TABLE ops.drill (
    drill_id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind               text        NOT NULL,
    resource           text        NOT NULL,
    run_id             text        NOT NULL,
    outcome            text        NOT NULL DEFAULT 'running'
                       CHECK (outcome IN ('running', 'passed', 'failed', 'could_not_run')),
    attempts           integer     NOT NULL DEFAULT 1 CHECK (attempts >= 1),
    rpo_seconds        numeric(14, 3) CHECK (rpo_seconds >= 0),
    rto_seconds        numeric(14, 3) CHECK (rto_seconds >= 0),
    rpo_target_seconds numeric(14, 3) CHECK (rpo_target_seconds > 0),
    rto_target_seconds numeric(14, 3) CHECK (rto_target_seconds > 0),
    reason             text        NOT NULL DEFAULT '',
    detail             jsonb       NOT NULL DEFAULT '{}',
    started_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at        timestamptz,
    UNIQUE (run_id, kind, resource),
    CHECK (outcome NOT IN ('failed', 'could_not_run') OR reason <> ''),
    CHECK ((outcome = 'running') = (finished_at IS NULL))
);
CREATE INDEX drill_trend ON ops.drill (kind, resource, started_at DESC);
COMMENT ON TABLE  ops.drill IS 'One rehearsal of an emergency: a backup that was verified, a restoration or a failover that was tried.';
COMMENT ON COLUMN ops.drill.drill_id IS 'Surrogate key.';
COMMENT ON COLUMN ops.drill.kind IS 'backup_verification, full_restoration, failover or archive_restoration.';
COMMENT ON COLUMN ops.drill.resource IS 'What was tried, for example the backup source nightly.';
COMMENT ON COLUMN ops.drill.run_id IS 'The Airflow run (or command) that tried it; a repeated task continues its own row.';
COMMENT ON COLUMN ops.drill.outcome IS 'running, passed, failed, or could_not_run: a drill that could not check everything never passes.';
COMMENT ON COLUMN ops.drill.attempts IS 'How often the run has begun it; more than one after a failure or a killed task.';
COMMENT ON COLUMN ops.drill.rpo_seconds IS 'Measured loss: seconds between the moment up to which everything came back (the snapshot of a backup whose rows were all found, else the newest row; failover: the last write that was kept) and the begin of the drill (failover: the failure); absent when not measured.';
COMMENT ON COLUMN ops.drill.rto_seconds IS 'Measured recovery: seconds until the data could be used again; absent when not measured.';
COMMENT ON COLUMN ops.drill.rpo_target_seconds IS 'Largest acceptable loss in seconds; absent when no target is set.';
COMMENT ON COLUMN ops.drill.rto_target_seconds IS 'Longest acceptable recovery in seconds; absent when no target is set.';
COMMENT ON COLUMN ops.drill.reason IS 'Why it failed or could not run, or what a reader should know of it.';
COMMENT ON COLUMN ops.drill.detail IS 'Facts of the whole drill, such as the backup''s name, size and time.';
COMMENT ON COLUMN ops.drill.started_at IS 'When its latest attempt began.';
COMMENT ON COLUMN ops.drill.finished_at IS 'When it ended; absent while it runs, or when its task was killed.';

CREATE TABLE ops.drill_stage (
    drill_id     bigint        NOT NULL REFERENCES ops.drill ON DELETE CASCADE,
    name         text          NOT NULL,
    position     integer       NOT NULL,
    outcome      text          NOT NULL CHECK (outcome IN ('passed', 'failed', 'unknown', 'not_applicable')),
    seconds      numeric(14, 3) CHECK (seconds >= 0),
    reason       text          NOT NULL DEFAULT '',
    detail       jsonb         NOT NULL DEFAULT '{}',
    recorded_at  timestamptz   NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (drill_id, name),
    CHECK (outcome = 'passed' OR reason <> '')
);
COMMENT ON TABLE  ops.drill_stage IS 'One step of a drill: what it took and what it found.';
COMMENT ON COLUMN ops.drill_stage.drill_id IS 'The drill.';
COMMENT ON COLUMN ops.drill_stage.name IS 'The step, for example restore or row_counts.';
COMMENT ON COLUMN ops.drill_stage.position IS 'Place in the order in which the steps ended, from 1.';
COMMENT ON COLUMN ops.drill_stage.outcome IS 'passed, failed, unknown (could not be checked; never counted as passed) or not_applicable.';
COMMENT ON COLUMN ops.drill_stage.seconds IS 'How long it took; absent when it was not begun.';
COMMENT ON COLUMN ops.drill_stage.reason IS 'Why it did not pass, in one sentence.';
COMMENT ON COLUMN ops.drill_stage.detail IS 'The numbers that were found.';
COMMENT ON COLUMN ops.drill_stage.recorded_at IS 'When it ended.';
