-- Rendered reports, maintenance actions with their proof, archives.
-- Every table and column carries a comment: docs/warehouse.md is generated from them.

-- -------------------------------------------------------------------------------------------------- reports
CREATE TABLE ops.report (
    kind           text        NOT NULL CHECK (kind IN ('daily_system_health', 'daily_user_activity')),
    period_key     text        NOT NULL,
    window_start   timestamptz NOT NULL,
    window_end     timestamptz NOT NULL,
    title          text        NOT NULL,
    verdict        text        NOT NULL CHECK (verdict IN ('ok', 'warning', 'critical', 'unknown')),
    headline       text        NOT NULL,
    completeness   numeric(6, 5) NOT NULL CHECK (completeness BETWEEN 0 AND 1),
    missing        text[]      NOT NULL DEFAULT '{}',
    figures        jsonb       NOT NULL,
    markdown       text        NOT NULL,
    html           text        NOT NULL,
    input_hash     text        NOT NULL,
    own_inputs     jsonb       NOT NULL DEFAULT '{}',
    delivered_at   timestamptz,
    first_rendered_at timestamptz NOT NULL DEFAULT now(),
    rendered_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, period_key)
);
COMMENT ON TABLE  ops.report IS 'A rendered document about one window, with the completeness of its inputs and their hash.';
COMMENT ON COLUMN ops.report.kind IS 'daily_system_health or daily_user_activity.';
COMMENT ON COLUMN ops.report.period_key IS 'The window as it is written, for example 2026-10-03.';
COMMENT ON COLUMN ops.report.window_start IS 'First instant of the window.';
COMMENT ON COLUMN ops.report.window_end IS 'First instant after the window.';
COMMENT ON COLUMN ops.report.title IS 'Title of the document.';
COMMENT ON COLUMN ops.report.verdict IS 'Worst outcome of the report''s figures against the guide''s thresholds; unknown when inputs are missing and nothing worse is known.';
COMMENT ON COLUMN ops.report.headline IS 'The one sentence that says why.';
COMMENT ON COLUMN ops.report.completeness IS 'Share of the inputs that were there, 0 to 1.';
COMMENT ON COLUMN ops.report.missing IS 'Names of the figures that are absent.';
COMMENT ON COLUMN ops.report.figures IS 'Every figure of the report with its unit, comparison and outcome.';
COMMENT ON COLUMN ops.report.markdown IS 'The report as Markdown.';
COMMENT ON COLUMN ops.report.html IS 'The report as a self-contained HTML page with charts.';
COMMENT ON COLUMN ops.report.input_hash IS 'SHA-256 over everything the report was rendered from; the same inputs give the same document.';
COMMENT ON COLUMN ops.report.own_inputs IS 'Hashes of the day''s own inputs: content_hash of each subject it uses, and its incidents; a difference makes the report stale.';
COMMENT ON COLUMN ops.report.delivered_at IS 'When the content was written to the reports folder; absent while that is outstanding.';
COMMENT ON COLUMN ops.report.first_rendered_at IS 'When it was rendered first.';
COMMENT ON COLUMN ops.report.rendered_at IS 'When its content last changed.';

-- ---------------------------------------------------------------------------------------------- maintenance
CREATE TABLE ops.maintenance_action (
    maintenance_action_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    idempotency_key text        NOT NULL UNIQUE,
    kind            text        NOT NULL,
    resource        text        NOT NULL,
    run_id          text        NOT NULL,
    dry_run         boolean     NOT NULL,
    state           text        NOT NULL CHECK (state IN ('planned', 'applying', 'proven', 'nothing_to_do', 'failed')),
    plan            jsonb       NOT NULL,
    applied         jsonb,
    proof           jsonb,
    reason          text        NOT NULL DEFAULT '',
    planned_at      timestamptz NOT NULL DEFAULT now(),
    applied_at      timestamptz,
    finished_at     timestamptz,
    CHECK (state <> 'proven' OR proof IS NOT NULL),
    CHECK (state NOT IN ('nothing_to_do', 'failed') OR reason <> '')
);
CREATE INDEX maintenance_action_planned_at ON ops.maintenance_action (planned_at DESC);
COMMENT ON TABLE  ops.maintenance_action IS 'One maintenance act: what was planned, what was applied and the proof measured before and after.';
COMMENT ON COLUMN ops.maintenance_action.maintenance_action_id IS 'Surrogate key.';
COMMENT ON COLUMN ops.maintenance_action.idempotency_key IS 'run, kind and resource: a repeated task continues its own row.';
COMMENT ON COLUMN ops.maintenance_action.kind IS 'analyze, vacuum, prune, rotate_logs, delete_logs or cache_statistics.';
COMMENT ON COLUMN ops.maintenance_action.resource IS 'The table, log file or cache it acts on.';
COMMENT ON COLUMN ops.maintenance_action.run_id IS 'The Airflow run (or command) that acts.';
COMMENT ON COLUMN ops.maintenance_action.dry_run IS 'Whether it stopped after the plan on purpose.';
COMMENT ON COLUMN ops.maintenance_action.state IS 'planned (the end of a dry run), applying, proven, nothing_to_do or failed.';
COMMENT ON COLUMN ops.maintenance_action.plan IS 'What will change and how much, measured before.';
COMMENT ON COLUMN ops.maintenance_action.applied IS 'What was done.';
COMMENT ON COLUMN ops.maintenance_action.proof IS 'The measurements before and after that prove the effect.';
COMMENT ON COLUMN ops.maintenance_action.reason IS 'Why nothing was to do, or why it failed.';
COMMENT ON COLUMN ops.maintenance_action.planned_at IS 'When the plan was made.';
COMMENT ON COLUMN ops.maintenance_action.applied_at IS 'When the change began.';
COMMENT ON COLUMN ops.maintenance_action.finished_at IS 'When the proof was in, or the act ended otherwise.';

CREATE TABLE ops.archive (
    archive_id     text        PRIMARY KEY,
    source_table   text        NOT NULL,
    location       text        NOT NULL,
    row_count      bigint      NOT NULL,
    content_hash   text        NOT NULL,
    file_sha256    text        NOT NULL,
    first_created_at timestamptz NOT NULL,
    last_created_at  timestamptz NOT NULL,
    state          text        NOT NULL CHECK (state IN ('written', 'verified', 'deleted')),
    created_at     timestamptz NOT NULL DEFAULT now(),
    deleted_at     timestamptz
);
CREATE INDEX archive_source_table ON ops.archive (source_table, created_at DESC);
COMMENT ON TABLE  ops.archive IS 'Rows moved out of a source table: nothing is deleted before its archive was read back and found equal.';
COMMENT ON COLUMN ops.archive.archive_id IS 'Table and time range of the rows; the same rows always have the same archive.';
COMMENT ON COLUMN ops.archive.source_table IS 'The table the rows came from.';
COMMENT ON COLUMN ops.archive.location IS 'Name of the file within the archive folder.';
COMMENT ON COLUMN ops.archive.row_count IS 'Rows in the file.';
COMMENT ON COLUMN ops.archive.content_hash IS 'Order-independent hash of the rows, equal for the source rows and the re-read file.';
COMMENT ON COLUMN ops.archive.file_sha256 IS 'SHA-256 of the file.';
COMMENT ON COLUMN ops.archive.first_created_at IS 'Time of the oldest row.';
COMMENT ON COLUMN ops.archive.last_created_at IS 'Time of the newest row.';
COMMENT ON COLUMN ops.archive.state IS 'written, verified (read back and equal) or deleted (the source rows are gone).';
COMMENT ON COLUMN ops.archive.created_at IS 'When the file was written.';
COMMENT ON COLUMN ops.archive.deleted_at IS 'When the last of its source rows was deleted.';
