-- Signals of the callbacks and the incidents they become.
-- Every table and column carries a comment: docs/warehouse.md is generated from them.

-- ------------------------------------------------------------------------------------ signals and incidents
CREATE TABLE ops.signal (
    signal_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    idempotency_key  text        NOT NULL UNIQUE,
    kind             text        NOT NULL,
    occurred_at      timestamptz NOT NULL,
    received_at      timestamptz NOT NULL DEFAULT now(),
    fingerprint      text        NOT NULL,
    class            text        NOT NULL CHECK (class IN ('P0', 'P1', 'P2', 'P3')),
    title            text        NOT NULL,
    detail           jsonb       NOT NULL DEFAULT '{}'
);
CREATE INDEX signal_fingerprint ON ops.signal (fingerprint, occurred_at);
COMMENT ON TABLE  ops.signal IS 'What callbacks saw. Insert-only; a signal that fires twice is one row.';
COMMENT ON COLUMN ops.signal.signal_id IS 'Surrogate key.';
COMMENT ON COLUMN ops.signal.idempotency_key IS 'airflow:dag:run:task:map index:try:kind.';
COMMENT ON COLUMN ops.signal.kind IS 'task_failed, dag_failed or deadline_missed.';
COMMENT ON COLUMN ops.signal.occurred_at IS 'When it happened.';
COMMENT ON COLUMN ops.signal.received_at IS 'When the warehouse got it; later than occurred_at when it came through the spool.';
COMMENT ON COLUMN ops.signal.fingerprint IS 'What the signal is about, without times and values; one open incident per fingerprint.';
COMMENT ON COLUMN ops.signal.class IS 'Incident class P0 to P3 that the signal asks for.';
COMMENT ON COLUMN ops.signal.title IS 'One line for people.';
COMMENT ON COLUMN ops.signal.detail IS 'DAG, run, task, try, error text without secrets, link to the log.';

CREATE TABLE ops.incident_counter (
    year  integer PRIMARY KEY,
    last  integer NOT NULL CHECK (last > 0)
);
COMMENT ON TABLE  ops.incident_counter IS 'Last incident number of each year, taken in the transaction that creates the incident, so numbers have no gaps.';
COMMENT ON COLUMN ops.incident_counter.year IS 'Calendar year of the detection in UTC.';
COMMENT ON COLUMN ops.incident_counter.last IS 'The last number given out.';

CREATE TABLE ops.incident (
    incident_id      text        PRIMARY KEY CHECK (incident_id ~ '^INC-[0-9]{4}-[0-9]{3,}$'),
    fingerprint      text        NOT NULL,
    class            text        NOT NULL CHECK (class IN ('P0', 'P1', 'P2', 'P3')),
    state            text        NOT NULL CHECK (state IN ('detected', 'acknowledged', 'mitigated', 'resolved', 'reviewed', 'closed', 'cancelled')),
    title            text        NOT NULL,
    affected         text        NOT NULL,
    detected_at      timestamptz NOT NULL,
    last_seen_at     timestamptz NOT NULL,
    occurrences      integer     NOT NULL DEFAULT 1 CHECK (occurrences > 0),
    acknowledged_at  timestamptz,
    resolved_at      timestamptz,
    CHECK (last_seen_at >= detected_at)
);
CREATE UNIQUE INDEX incident_one_open_per_fingerprint ON ops.incident (fingerprint)
    WHERE state IN ('detected', 'acknowledged', 'mitigated');
COMMENT ON TABLE  ops.incident IS 'What people work on. At most one is open per fingerprint, held by the database.';
COMMENT ON COLUMN ops.incident.incident_id IS 'INC-YYYY-NNN, numbered without gaps within the year.';
COMMENT ON COLUMN ops.incident.fingerprint IS 'What the incident is about, without times and values.';
COMMENT ON COLUMN ops.incident.class IS 'P0 critical, P1 high, P2 medium, P3 low.';
COMMENT ON COLUMN ops.incident.state IS 'detected, acknowledged, mitigated, resolved, reviewed, closed or cancelled.';
COMMENT ON COLUMN ops.incident.title IS 'One line for people.';
COMMENT ON COLUMN ops.incident.affected IS 'The affected system.';
COMMENT ON COLUMN ops.incident.detected_at IS 'When the first signal occurred.';
COMMENT ON COLUMN ops.incident.last_seen_at IS 'When the latest signal occurred.';
COMMENT ON COLUMN ops.incident.occurrences IS 'Number of signals.';
COMMENT ON COLUMN ops.incident.acknowledged_at IS 'When somebody took it.';
COMMENT ON COLUMN ops.incident.resolved_at IS 'When it was over.';

CREATE TABLE ops.incident_signal (
    signal_id    bigint PRIMARY KEY REFERENCES ops.signal,
    incident_id  text   NOT NULL REFERENCES ops.incident
);
CREATE INDEX incident_signal_incident ON ops.incident_signal (incident_id);
COMMENT ON TABLE  ops.incident_signal IS 'Which incident a signal became part of; a signal without a row is not handled yet.';
COMMENT ON COLUMN ops.incident_signal.signal_id IS 'The signal.';
COMMENT ON COLUMN ops.incident_signal.incident_id IS 'Its incident.';

CREATE TABLE ops.incident_timeline (
    incident_id  text        NOT NULL REFERENCES ops.incident,
    entry        integer     NOT NULL,
    at           timestamptz NOT NULL,
    actor        text        NOT NULL,
    kind         text        NOT NULL,
    message      text        NOT NULL,
    detail       jsonb       NOT NULL DEFAULT '{}',
    PRIMARY KEY (incident_id, entry)
);
COMMENT ON TABLE  ops.incident_timeline IS 'What happened in an incident, in order. Rows are only ever added.';
COMMENT ON COLUMN ops.incident_timeline.incident_id IS 'The incident.';
COMMENT ON COLUMN ops.incident_timeline.entry IS 'Position in the timeline, from 1.';
COMMENT ON COLUMN ops.incident_timeline.at IS 'When it happened.';
COMMENT ON COLUMN ops.incident_timeline.actor IS 'Who or what acted.';
COMMENT ON COLUMN ops.incident_timeline.kind IS 'detected, seen_again, class_raised or a change of state.';
COMMENT ON COLUMN ops.incident_timeline.message IS 'One sentence.';
COMMENT ON COLUMN ops.incident_timeline.detail IS 'Facts behind it.';

CREATE FUNCTION ops.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP;
END $$;
COMMENT ON FUNCTION ops.refuse_change() IS 'Trigger of the append-only tables.';
CREATE TRIGGER incident_timeline_append_only BEFORE UPDATE OR DELETE ON ops.incident_timeline
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_change();
CREATE TRIGGER signal_append_only BEFORE UPDATE OR DELETE ON ops.signal
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_change();
