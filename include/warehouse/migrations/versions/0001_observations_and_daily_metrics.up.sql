-- What the watch observed, and the metrics of each day.
-- Every table and column carries a comment: docs/warehouse.md is generated from them.

-- ---------------------------------------------------------------------------------------------- observations
CREATE TABLE ops.observation (
    signal       text        NOT NULL,
    resource     text        NOT NULL,
    observed_at  timestamptz NOT NULL,
    outcome      text        NOT NULL CHECK (outcome IN ('ok', 'warning', 'critical', 'unknown', 'not_applicable')),
    value        double precision,
    unit         text,
    evidence     jsonb       NOT NULL DEFAULT '{}',
    PRIMARY KEY (signal, resource, observed_at)
);
COMMENT ON TABLE  ops.observation IS 'One measured value of one signal on one resource at one time.';
COMMENT ON COLUMN ops.observation.signal IS 'What was measured, for example probe.';
COMMENT ON COLUMN ops.observation.resource IS 'On what it was measured, for example a platform component.';
COMMENT ON COLUMN ops.observation.observed_at IS 'When it was measured.';
COMMENT ON COLUMN ops.observation.outcome IS 'ok, warning, critical, unknown (could not check) or not_applicable.';
COMMENT ON COLUMN ops.observation.value IS 'The measured value; for a probe the response time. Absent when nothing was measured.';
COMMENT ON COLUMN ops.observation.unit IS 'Unit of the value, for example seconds.';
COMMENT ON COLUMN ops.observation.evidence IS 'What the outcome rests on: status code, error text, attempts.';

CREATE TABLE ops.maintenance_window (
    maintenance_window_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    component   text        NOT NULL,
    starts_at   timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL,
    reason      text        NOT NULL,
    created_by  text        NOT NULL,
    CHECK (ends_at > starts_at)
);
COMMENT ON TABLE  ops.maintenance_window IS 'Announced maintenance: this time counts neither as up nor as down.';
COMMENT ON COLUMN ops.maintenance_window.maintenance_window_id IS 'Surrogate key.';
COMMENT ON COLUMN ops.maintenance_window.component IS 'The component under maintenance, or * for the whole platform.';
COMMENT ON COLUMN ops.maintenance_window.starts_at IS 'First instant of the window.';
COMMENT ON COLUMN ops.maintenance_window.ends_at IS 'First instant after the window.';
COMMENT ON COLUMN ops.maintenance_window.reason IS 'Why the maintenance takes place.';
COMMENT ON COLUMN ops.maintenance_window.created_by IS 'Who announced it.';

-- --------------------------------------------------------------------------------------------- daily metrics
CREATE TABLE ops.daily_subject (
    day           date    NOT NULL,
    subject       text    NOT NULL CHECK (subject IN ('uptime', 'traffic', 'users', 'transactions', 'support')),
    state         text    NOT NULL CHECK (state IN ('complete', 'partial', 'missing')),
    completeness  numeric(6, 5) NOT NULL CHECK (completeness BETWEEN 0 AND 1),
    reason        text    NOT NULL DEFAULT '',
    detail        jsonb   NOT NULL DEFAULT '{}',
    content_hash  text    NOT NULL,
    PRIMARY KEY (day, subject)
);
COMMENT ON TABLE  ops.daily_subject IS 'What is known of one subject on one day: whether its figures are complete, and a hash of its rows.';
COMMENT ON COLUMN ops.daily_subject.day IS 'The day in the platform''s time zone.';
COMMENT ON COLUMN ops.daily_subject.subject IS 'uptime, traffic, users, transactions or support.';
COMMENT ON COLUMN ops.daily_subject.state IS 'complete, partial (some of the source was missing) or missing (figures are absent, not zero).';
COMMENT ON COLUMN ops.daily_subject.completeness IS 'Share of the source that was there, 0 to 1.';
COMMENT ON COLUMN ops.daily_subject.reason IS 'Why the subject is not complete; empty when it is.';
COMMENT ON COLUMN ops.daily_subject.detail IS 'Facts about the source: files read, broken lines and samples of them, row counts.';
COMMENT ON COLUMN ops.daily_subject.content_hash IS 'SHA-256 over the subject''s rows of the day; the same rows always give the same hash.';

CREATE TABLE ops.metric_write (
    metric_write_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    day           date        NOT NULL,
    subject       text        NOT NULL,
    written_at    timestamptz NOT NULL DEFAULT now(),
    run_id        text        NOT NULL,
    content_hash  text        NOT NULL,
    changed       boolean     NOT NULL
);
CREATE INDEX metric_write_day ON ops.metric_write (day, subject, written_at);
COMMENT ON TABLE  ops.metric_write IS 'Append-only log of every write of a day''s subject, so that a re-run can be seen to have changed nothing.';
COMMENT ON COLUMN ops.metric_write.metric_write_id IS 'Surrogate key.';
COMMENT ON COLUMN ops.metric_write.day IS 'The day that was written.';
COMMENT ON COLUMN ops.metric_write.subject IS 'The subject that was written.';
COMMENT ON COLUMN ops.metric_write.written_at IS 'When it was written.';
COMMENT ON COLUMN ops.metric_write.run_id IS 'The Airflow run (or command) that wrote it.';
COMMENT ON COLUMN ops.metric_write.content_hash IS 'The hash of the rows after the write.';
COMMENT ON COLUMN ops.metric_write.changed IS 'Whether the rows differ from those before the write.';

CREATE TABLE ops.daily_uptime (
    day                 date NOT NULL,
    component           text NOT NULL,
    up_seconds          numeric(9, 3) NOT NULL,
    down_seconds        numeric(9, 3) NOT NULL,
    maintenance_seconds numeric(9, 3) NOT NULL,
    unknown_seconds     numeric(9, 3) NOT NULL,
    outages             integer NOT NULL,
    uptime              numeric(9, 8) GENERATED ALWAYS AS
        (CASE WHEN up_seconds + down_seconds > 0 THEN up_seconds / (up_seconds + down_seconds) END) STORED,
    PRIMARY KEY (day, component)
);
COMMENT ON TABLE  ops.daily_uptime IS 'Time up and down per component and day. The component overall is down whenever a user-facing component is.';
COMMENT ON COLUMN ops.daily_uptime.day IS 'The day in the platform''s time zone.';
COMMENT ON COLUMN ops.daily_uptime.component IS 'The component, or overall.';
COMMENT ON COLUMN ops.daily_uptime.up_seconds IS 'Seconds seen up outside maintenance.';
COMMENT ON COLUMN ops.daily_uptime.down_seconds IS 'Seconds seen down outside maintenance.';
COMMENT ON COLUMN ops.daily_uptime.maintenance_seconds IS 'Seconds of announced maintenance.';
COMMENT ON COLUMN ops.daily_uptime.unknown_seconds IS 'Seconds for which no observation holds: the watch did not run or could not tell.';
COMMENT ON COLUMN ops.daily_uptime.outages IS 'Number of separate intervals of downtime that began in the day.';
COMMENT ON COLUMN ops.daily_uptime.uptime IS 'up / (up + down), that is up / (window - maintenance - unknown); absent when nothing is known.';

CREATE TABLE ops.daily_traffic (
    day                   date PRIMARY KEY,
    requests              bigint NOT NULL,
    errors                bigint NOT NULL,
    client_errors         bigint NOT NULL,
    response_seconds_sum  numeric(20, 6) NOT NULL,
    response_p95_seconds  numeric(14, 6),
    response_p99_seconds  numeric(14, 6),
    bytes_sent            numeric(24, 0) NOT NULL,
    lines_read            bigint NOT NULL,
    lines_broken          bigint NOT NULL,
    lines_excluded        bigint NOT NULL,
    error_rate            numeric(9, 8) GENERATED ALWAYS AS
        (CASE WHEN requests > 0 THEN errors::numeric / requests END) STORED,
    response_average_seconds numeric(14, 6) GENERATED ALWAYS AS
        (CASE WHEN requests > 0 THEN response_seconds_sum / requests END) STORED
);
COMMENT ON TABLE  ops.daily_traffic IS 'Requests of the day from the access logs, without the watch''s own probes.';
COMMENT ON COLUMN ops.daily_traffic.day IS 'The day in the platform''s time zone.';
COMMENT ON COLUMN ops.daily_traffic.requests IS 'Requests served.';
COMMENT ON COLUMN ops.daily_traffic.errors IS 'Requests answered with status 500 to 599.';
COMMENT ON COLUMN ops.daily_traffic.client_errors IS 'Requests answered with status 400 to 499.';
COMMENT ON COLUMN ops.daily_traffic.response_seconds_sum IS 'Sum of the response times in seconds.';
COMMENT ON COLUMN ops.daily_traffic.response_p95_seconds IS '95th percentile of the response time from the hourly histograms, within 1 % of the exact value.';
COMMENT ON COLUMN ops.daily_traffic.response_p99_seconds IS '99th percentile of the response time from the hourly histograms, within 1 % of the exact value.';
COMMENT ON COLUMN ops.daily_traffic.bytes_sent IS 'Bytes of all response bodies.';
COMMENT ON COLUMN ops.daily_traffic.lines_read IS 'Log lines of the day, broken and excluded ones included.';
COMMENT ON COLUMN ops.daily_traffic.lines_broken IS 'Lines that could not be read; samples stand in daily_subject.detail.';
COMMENT ON COLUMN ops.daily_traffic.lines_excluded IS 'Lines of paths that do not count as traffic, such as health probes.';
COMMENT ON COLUMN ops.daily_traffic.error_rate IS 'errors / requests; absent without requests.';
COMMENT ON COLUMN ops.daily_traffic.response_average_seconds IS 'Mean response time in seconds; absent without requests.';

CREATE TABLE ops.hourly_traffic (
    day                   date        NOT NULL,
    hour_start            timestamptz NOT NULL,
    method                text        NOT NULL,
    endpoint              text        NOT NULL,
    requests              bigint      NOT NULL,
    errors                bigint      NOT NULL,
    client_errors         bigint      NOT NULL,
    response_seconds_sum  numeric(20, 6) NOT NULL,
    bytes_sent            numeric(24, 0) NOT NULL,
    PRIMARY KEY (day, hour_start, method, endpoint)
);
COMMENT ON TABLE  ops.hourly_traffic IS 'Requests per hour and endpoint.';
COMMENT ON COLUMN ops.hourly_traffic.day IS 'The day in the platform''s time zone.';
COMMENT ON COLUMN ops.hourly_traffic.hour_start IS 'First instant of the hour.';
COMMENT ON COLUMN ops.hourly_traffic.method IS 'HTTP method.';
COMMENT ON COLUMN ops.hourly_traffic.endpoint IS 'Path with identifiers replaced by {id} and without its query; (other) beyond the configured number of endpoints.';
COMMENT ON COLUMN ops.hourly_traffic.requests IS 'Requests served.';
COMMENT ON COLUMN ops.hourly_traffic.errors IS 'Requests answered with status 500 to 599.';
COMMENT ON COLUMN ops.hourly_traffic.client_errors IS 'Requests answered with status 400 to 499.';
COMMENT ON COLUMN ops.hourly_traffic.response_seconds_sum IS 'Sum of the response times in seconds.';
COMMENT ON COLUMN ops.hourly_traffic.bytes_sent IS 'Bytes of all response bodies.';

CREATE TABLE ops.hourly_latency (
    day         date        NOT NULL,
    hour_start  timestamptz NOT NULL,
    method      text        NOT NULL,
    endpoint    text        NOT NULL,
    bucket      smallint    NOT NULL,
    requests    bigint      NOT NULL,
    PRIMARY KEY (day, hour_start, method, endpoint, bucket)
);
COMMENT ON TABLE  ops.hourly_latency IS 'DDSketch histogram of the response time per hour and endpoint, 1 % relative error; histograms of any windows are merged by summing buckets.';
COMMENT ON COLUMN ops.hourly_latency.day IS 'The day in the platform''s time zone.';
COMMENT ON COLUMN ops.hourly_latency.hour_start IS 'First instant of the hour.';
COMMENT ON COLUMN ops.hourly_latency.method IS 'HTTP method.';
COMMENT ON COLUMN ops.hourly_latency.endpoint IS 'As in hourly_traffic.';
COMMENT ON COLUMN ops.hourly_latency.bucket IS 'ceil(log(seconds) / log(1.01 / 0.99)); -32768 holds the response times of zero.';
COMMENT ON COLUMN ops.hourly_latency.requests IS 'Requests in the bucket.';

CREATE TABLE ops.daily_error (
    day       date   NOT NULL,
    source    text   NOT NULL CHECK (source IN ('access', 'application', 'error')),
    kind      text   NOT NULL,
    endpoint  text   NOT NULL,
    errors    bigint NOT NULL,
    PRIMARY KEY (day, source, kind, endpoint)
);
COMMENT ON TABLE  ops.daily_error IS 'Error summary of the day by kind and endpoint.';
COMMENT ON COLUMN ops.daily_error.day IS 'The day in the platform''s time zone.';
COMMENT ON COLUMN ops.daily_error.source IS 'The log that the errors stand in: access, application or error.';
COMMENT ON COLUMN ops.daily_error.kind IS 'HTTP status of an access line, exception of an application line, message without its numbers of an error line.';
COMMENT ON COLUMN ops.daily_error.endpoint IS 'As in hourly_traffic; - where a line names no path.';
COMMENT ON COLUMN ops.daily_error.errors IS 'Number of errors.';

CREATE TABLE ops.daily_users (
    day                   date PRIMARY KEY,
    active_users          bigint NOT NULL,
    sessions              bigint NOT NULL,
    page_views            bigint NOT NULL,
    new_users             bigint NOT NULL,
    verified_users        bigint NOT NULL,
    pending_verification  bigint NOT NULL
);
COMMENT ON TABLE  ops.daily_users IS 'User activity of the day.';
COMMENT ON COLUMN ops.daily_users.day IS 'The day in the platform''s time zone.';
COMMENT ON COLUMN ops.daily_users.active_users IS 'Distinct users with a page view in the day (exact).';
COMMENT ON COLUMN ops.daily_users.sessions IS 'Sessions that began in the day.';
COMMENT ON COLUMN ops.daily_users.page_views IS 'Page views in the day.';
COMMENT ON COLUMN ops.daily_users.new_users IS 'Users who registered in the day.';
COMMENT ON COLUMN ops.daily_users.verified_users IS 'Of those, verified before the day ended.';
COMMENT ON COLUMN ops.daily_users.pending_verification IS 'Of those, not verified before the day ended.';

CREATE TABLE ops.daily_user_sketch (
    day        date PRIMARY KEY,
    registers  bytea NOT NULL
);
COMMENT ON TABLE  ops.daily_user_sketch IS 'HyperLogLog registers of the day''s active users, so that distinct users of a week or month are never a sum of days.';
COMMENT ON COLUMN ops.daily_user_sketch.day IS 'The day in the platform''s time zone.';
COMMENT ON COLUMN ops.daily_user_sketch.registers IS '16,384 registers of one byte each; sketches of any days are merged by the greatest of each register. Standard error 0.81 %.';

CREATE TABLE ops.daily_transactions (
    day           date    NOT NULL,
    outcome       text    NOT NULL CHECK (outcome IN ('created', 'completed', 'disputed', 'cancelled', 'failed')),
    transactions  bigint  NOT NULL,
    value_usd     numeric(24, 2) NOT NULL,
    PRIMARY KEY (day, outcome)
);
COMMENT ON TABLE  ops.daily_transactions IS 'Escrow transactions by what happened to them in the day: a transaction created on one day and completed on the next counts once on each.';
COMMENT ON COLUMN ops.daily_transactions.day IS 'The day in the platform''s time zone.';
COMMENT ON COLUMN ops.daily_transactions.outcome IS 'created, completed, disputed, cancelled or failed.';
COMMENT ON COLUMN ops.daily_transactions.transactions IS 'Transactions that reached the outcome in the day.';
COMMENT ON COLUMN ops.daily_transactions.value_usd IS 'Sum of their amounts in US dollars.';

CREATE TABLE ops.daily_revenue (
    day         date    NOT NULL,
    kind        text    NOT NULL,
    fees        bigint  NOT NULL,
    amount_usd  numeric(24, 2) NOT NULL,
    PRIMARY KEY (day, kind)
);
COMMENT ON TABLE  ops.daily_revenue IS 'Fees charged in the day by kind; the revenue of the day is their sum.';
COMMENT ON COLUMN ops.daily_revenue.day IS 'The day in the platform''s time zone.';
COMMENT ON COLUMN ops.daily_revenue.kind IS 'Kind of the fee, for example escrow or dispute; refunds are negative.';
COMMENT ON COLUMN ops.daily_revenue.fees IS 'Number of fees.';
COMMENT ON COLUMN ops.daily_revenue.amount_usd IS 'Sum of the fees in US dollars.';

CREATE TABLE ops.daily_support (
    day                   date   NOT NULL,
    priority              text   NOT NULL CHECK (priority IN ('high', 'medium', 'low')),
    created               bigint NOT NULL,
    resolved              bigint NOT NULL,
    first_responses       bigint NOT NULL,
    response_seconds_sum  numeric(20, 3) NOT NULL,
    within_target         bigint NOT NULL,
    breached              bigint NOT NULL,
    target_seconds        integer NOT NULL,
    response_average_seconds numeric(20, 3) GENERATED ALWAYS AS
        (CASE WHEN first_responses > 0 THEN response_seconds_sum / first_responses END) STORED,
    PRIMARY KEY (day, priority)
);
COMMENT ON TABLE  ops.daily_support IS 'Support tickets of the day by priority against the response targets.';
COMMENT ON COLUMN ops.daily_support.day IS 'The day in the platform''s time zone.';
COMMENT ON COLUMN ops.daily_support.priority IS 'high, medium or low.';
COMMENT ON COLUMN ops.daily_support.created IS 'Tickets created in the day.';
COMMENT ON COLUMN ops.daily_support.resolved IS 'Tickets resolved in the day.';
COMMENT ON COLUMN ops.daily_support.first_responses IS 'Tickets first answered in the day.';
COMMENT ON COLUMN ops.daily_support.response_seconds_sum IS 'Sum of their times from creation to first answer in seconds.';
COMMENT ON COLUMN ops.daily_support.within_target IS 'Tickets first answered in the day and within the target.';
COMMENT ON COLUMN ops.daily_support.breached IS 'Tickets whose target passed unanswered in the day.';
COMMENT ON COLUMN ops.daily_support.target_seconds IS 'The response target that applied, in seconds.';
COMMENT ON COLUMN ops.daily_support.response_average_seconds IS 'Mean time to the first answer in seconds; absent without answers.';

CREATE TABLE ops.daily_feedback (
    day         date PRIMARY KEY,
    ratings     bigint NOT NULL,
    rating_sum  bigint NOT NULL,
    rating_1    bigint NOT NULL,
    rating_2    bigint NOT NULL,
    rating_3    bigint NOT NULL,
    rating_4    bigint NOT NULL,
    rating_5    bigint NOT NULL,
    rating_average numeric(6, 4) GENERATED ALWAYS AS
        (CASE WHEN ratings > 0 THEN rating_sum::numeric / ratings END) STORED
);
COMMENT ON TABLE  ops.daily_feedback IS 'User feedback of the day.';
COMMENT ON COLUMN ops.daily_feedback.day IS 'The day in the platform''s time zone.';
COMMENT ON COLUMN ops.daily_feedback.ratings IS 'Ratings given.';
COMMENT ON COLUMN ops.daily_feedback.rating_sum IS 'Sum of the ratings.';
COMMENT ON COLUMN ops.daily_feedback.rating_1 IS 'Ratings of 1 (worst).';
COMMENT ON COLUMN ops.daily_feedback.rating_2 IS 'Ratings of 2.';
COMMENT ON COLUMN ops.daily_feedback.rating_3 IS 'Ratings of 3.';
COMMENT ON COLUMN ops.daily_feedback.rating_4 IS 'Ratings of 4.';
COMMENT ON COLUMN ops.daily_feedback.rating_5 IS 'Ratings of 5 (best).';
COMMENT ON COLUMN ops.daily_feedback.rating_average IS 'Mean rating; absent without ratings.';
