-- Weekly and monthly rollups of the daily metrics.
-- Every table and column carries a comment: docs/warehouse.md is generated from them.

-- -------------------------------------------------------------------------------------------------- rollups
CREATE TABLE ops.rollup (
    grain          text    NOT NULL CHECK (grain IN ('week', 'month')),
    period_start   date    NOT NULL,
    period_key     text    NOT NULL,
    days_expected  integer NOT NULL,
    days_held      integer NOT NULL,
    is_final       boolean NOT NULL,
    input_hash     text    NOT NULL,
    PRIMARY KEY (grain, period_start)
);
COMMENT ON TABLE  ops.rollup IS 'One week or month whose figures stand in the rollup tables.';
COMMENT ON COLUMN ops.rollup.grain IS 'week or month.';
COMMENT ON COLUMN ops.rollup.period_start IS 'First day of the period; weeks begin on Monday.';
COMMENT ON COLUMN ops.rollup.period_key IS 'How the period is written: 2026-W40 or 2026-10.';
COMMENT ON COLUMN ops.rollup.days_expected IS 'Days in the period.';
COMMENT ON COLUMN ops.rollup.days_held IS 'Days of it whose metrics the warehouse holds.';
COMMENT ON COLUMN ops.rollup.is_final IS 'Whether the period is over and all of its days are held.';
COMMENT ON COLUMN ops.rollup.input_hash IS 'SHA-256 over the content hashes of the days; a rollup with another hash than its days is stale.';

CREATE TABLE ops.rollup_uptime (
    grain                text NOT NULL CHECK (grain IN ('week', 'month')),
    period_start         date NOT NULL,
    component            text NOT NULL,
    days_expected        integer NOT NULL,
    days_held            integer NOT NULL,
    is_final             boolean NOT NULL,
    up_seconds           numeric(12, 3) NOT NULL,
    down_seconds         numeric(12, 3) NOT NULL,
    maintenance_seconds  numeric(12, 3) NOT NULL,
    unknown_seconds      numeric(12, 3) NOT NULL,
    outages              integer NOT NULL,
    uptime               numeric(9, 8) GENERATED ALWAYS AS
        (CASE WHEN up_seconds + down_seconds > 0 THEN up_seconds / (up_seconds + down_seconds) END) STORED,
    PRIMARY KEY (grain, period_start, component),
    FOREIGN KEY (grain, period_start) REFERENCES ops.rollup ON DELETE CASCADE
);
COMMENT ON TABLE  ops.rollup_uptime IS 'Time up and down per component and period.';
COMMENT ON COLUMN ops.rollup_uptime.grain IS 'week or month.';
COMMENT ON COLUMN ops.rollup_uptime.period_start IS 'First day of the period; weeks begin on Monday.';
COMMENT ON COLUMN ops.rollup_uptime.component IS 'The component, or overall.';
COMMENT ON COLUMN ops.rollup_uptime.days_expected IS 'Days in the period.';
COMMENT ON COLUMN ops.rollup_uptime.days_held IS 'Days of it whose figures of this subject the warehouse holds.';
COMMENT ON COLUMN ops.rollup_uptime.is_final IS 'Whether the period is over and all of its days are held.';
COMMENT ON COLUMN ops.rollup_uptime.up_seconds IS 'Seconds seen up outside maintenance.';
COMMENT ON COLUMN ops.rollup_uptime.down_seconds IS 'Seconds seen down outside maintenance.';
COMMENT ON COLUMN ops.rollup_uptime.maintenance_seconds IS 'Seconds of announced maintenance.';
COMMENT ON COLUMN ops.rollup_uptime.unknown_seconds IS 'Seconds for which no observation holds.';
COMMENT ON COLUMN ops.rollup_uptime.outages IS 'Number of separate intervals of downtime that began in the period.';
COMMENT ON COLUMN ops.rollup_uptime.uptime IS 'up / (up + down); absent when nothing is known.';

CREATE TABLE ops.rollup_traffic (
    grain                     text NOT NULL CHECK (grain IN ('week', 'month')),
    period_start              date NOT NULL,
    days_expected             integer NOT NULL,
    days_held                 integer NOT NULL,
    is_final                  boolean NOT NULL,
    requests                  bigint NOT NULL,
    errors                    bigint NOT NULL,
    client_errors             bigint NOT NULL,
    response_seconds_sum      numeric(20, 6) NOT NULL,
    response_p95_seconds      numeric(14, 6),
    response_p99_seconds      numeric(14, 6),
    bytes_sent                numeric(24, 0) NOT NULL,
    lines_broken              bigint NOT NULL,
    error_rate                numeric(9, 8) GENERATED ALWAYS AS
        (CASE WHEN requests > 0 THEN errors::numeric / requests END) STORED,
    response_average_seconds  numeric(14, 6) GENERATED ALWAYS AS
        (CASE WHEN requests > 0 THEN response_seconds_sum / requests END) STORED,
    PRIMARY KEY (grain, period_start),
    FOREIGN KEY (grain, period_start) REFERENCES ops.rollup ON DELETE CASCADE
);
COMMENT ON TABLE  ops.rollup_traffic IS 'Requests of the period.';
COMMENT ON COLUMN ops.rollup_traffic.grain IS 'week or month.';
COMMENT ON COLUMN ops.rollup_traffic.period_start IS 'First day of the period; weeks begin on Monday.';
COMMENT ON COLUMN ops.rollup_traffic.days_expected IS 'Days in the period.';
COMMENT ON COLUMN ops.rollup_traffic.days_held IS 'Days of it whose figures of this subject the warehouse holds.';
COMMENT ON COLUMN ops.rollup_traffic.is_final IS 'Whether the period is over and all of its days are held.';
COMMENT ON COLUMN ops.rollup_traffic.requests IS 'Requests served.';
COMMENT ON COLUMN ops.rollup_traffic.errors IS 'Requests answered with status 500 to 599.';
COMMENT ON COLUMN ops.rollup_traffic.client_errors IS 'Requests answered with status 400 to 499.';
COMMENT ON COLUMN ops.rollup_traffic.response_seconds_sum IS 'Sum of the response times in seconds.';
COMMENT ON COLUMN ops.rollup_traffic.response_p95_seconds IS '95th percentile of the response time from the merged histograms of the days.';
COMMENT ON COLUMN ops.rollup_traffic.response_p99_seconds IS '99th percentile of the response time from the merged histograms of the days.';
COMMENT ON COLUMN ops.rollup_traffic.bytes_sent IS 'Bytes of all response bodies.';
COMMENT ON COLUMN ops.rollup_traffic.lines_broken IS 'Log lines that could not be read.';
COMMENT ON COLUMN ops.rollup_traffic.error_rate IS 'errors / requests; absent without requests.';
COMMENT ON COLUMN ops.rollup_traffic.response_average_seconds IS 'Mean response time in seconds; absent without requests.';

CREATE TABLE ops.rollup_error (
    grain          text NOT NULL CHECK (grain IN ('week', 'month')),
    period_start   date NOT NULL,
    source         text NOT NULL,
    kind           text NOT NULL,
    endpoint       text NOT NULL,
    days_expected  integer NOT NULL,
    days_held      integer NOT NULL,
    is_final       boolean NOT NULL,
    errors         bigint NOT NULL,
    PRIMARY KEY (grain, period_start, source, kind, endpoint),
    FOREIGN KEY (grain, period_start) REFERENCES ops.rollup ON DELETE CASCADE
);
COMMENT ON TABLE  ops.rollup_error IS 'Error summary of the period by kind and endpoint.';
COMMENT ON COLUMN ops.rollup_error.grain IS 'week or month.';
COMMENT ON COLUMN ops.rollup_error.period_start IS 'First day of the period; weeks begin on Monday.';
COMMENT ON COLUMN ops.rollup_error.source IS 'The log that the errors stand in: access, application or error.';
COMMENT ON COLUMN ops.rollup_error.kind IS 'As in daily_error.';
COMMENT ON COLUMN ops.rollup_error.endpoint IS 'As in daily_error.';
COMMENT ON COLUMN ops.rollup_error.days_expected IS 'Days in the period.';
COMMENT ON COLUMN ops.rollup_error.days_held IS 'Days of it whose figures of this subject the warehouse holds.';
COMMENT ON COLUMN ops.rollup_error.is_final IS 'Whether the period is over and all of its days are held.';
COMMENT ON COLUMN ops.rollup_error.errors IS 'Number of errors.';

CREATE TABLE ops.rollup_users (
    grain                        text NOT NULL CHECK (grain IN ('week', 'month')),
    period_start                 date NOT NULL,
    days_expected                integer NOT NULL,
    days_held                    integer NOT NULL,
    is_final                     boolean NOT NULL,
    active_users                 bigint NOT NULL,
    active_users_relative_error  numeric(6, 5) NOT NULL,
    sessions                     bigint NOT NULL,
    page_views                   bigint NOT NULL,
    new_users                    bigint NOT NULL,
    verified_users               bigint NOT NULL,
    pending_verification         bigint NOT NULL,
    PRIMARY KEY (grain, period_start),
    FOREIGN KEY (grain, period_start) REFERENCES ops.rollup ON DELETE CASCADE
);
COMMENT ON TABLE  ops.rollup_users IS 'User activity of the period.';
COMMENT ON COLUMN ops.rollup_users.grain IS 'week or month.';
COMMENT ON COLUMN ops.rollup_users.period_start IS 'First day of the period; weeks begin on Monday.';
COMMENT ON COLUMN ops.rollup_users.days_expected IS 'Days in the period.';
COMMENT ON COLUMN ops.rollup_users.days_held IS 'Days of it whose figures of this subject the warehouse holds.';
COMMENT ON COLUMN ops.rollup_users.is_final IS 'Whether the period is over and all of its days are held.';
COMMENT ON COLUMN ops.rollup_users.active_users IS 'Distinct users with a page view in the period, estimated from the merged sketches of the days.';
COMMENT ON COLUMN ops.rollup_users.active_users_relative_error IS 'Standard error of that estimate as a share of it.';
COMMENT ON COLUMN ops.rollup_users.sessions IS 'Sessions that began in the period.';
COMMENT ON COLUMN ops.rollup_users.page_views IS 'Page views in the period.';
COMMENT ON COLUMN ops.rollup_users.new_users IS 'Users who registered in the period.';
COMMENT ON COLUMN ops.rollup_users.verified_users IS 'Of those, verified before the day of their registration ended.';
COMMENT ON COLUMN ops.rollup_users.pending_verification IS 'Of those, not verified before the day of their registration ended.';

CREATE TABLE ops.rollup_transactions (
    grain          text NOT NULL CHECK (grain IN ('week', 'month')),
    period_start   date NOT NULL,
    outcome        text NOT NULL,
    days_expected  integer NOT NULL,
    days_held      integer NOT NULL,
    is_final       boolean NOT NULL,
    transactions   bigint NOT NULL,
    value_usd      numeric(24, 2) NOT NULL,
    PRIMARY KEY (grain, period_start, outcome),
    FOREIGN KEY (grain, period_start) REFERENCES ops.rollup ON DELETE CASCADE
);
COMMENT ON TABLE  ops.rollup_transactions IS 'Escrow transactions of the period by what happened to them in it.';
COMMENT ON COLUMN ops.rollup_transactions.grain IS 'week or month.';
COMMENT ON COLUMN ops.rollup_transactions.period_start IS 'First day of the period; weeks begin on Monday.';
COMMENT ON COLUMN ops.rollup_transactions.outcome IS 'created, completed, disputed, cancelled or failed.';
COMMENT ON COLUMN ops.rollup_transactions.days_expected IS 'Days in the period.';
COMMENT ON COLUMN ops.rollup_transactions.days_held IS 'Days of it whose figures of this subject the warehouse holds.';
COMMENT ON COLUMN ops.rollup_transactions.is_final IS 'Whether the period is over and all of its days are held.';
COMMENT ON COLUMN ops.rollup_transactions.transactions IS 'Transactions that reached the outcome in the period.';
COMMENT ON COLUMN ops.rollup_transactions.value_usd IS 'Sum of their amounts in US dollars.';

CREATE TABLE ops.rollup_revenue (
    grain          text NOT NULL CHECK (grain IN ('week', 'month')),
    period_start   date NOT NULL,
    kind           text NOT NULL,
    days_expected  integer NOT NULL,
    days_held      integer NOT NULL,
    is_final       boolean NOT NULL,
    fees           bigint NOT NULL,
    amount_usd     numeric(24, 2) NOT NULL,
    PRIMARY KEY (grain, period_start, kind),
    FOREIGN KEY (grain, period_start) REFERENCES ops.rollup ON DELETE CASCADE
);
COMMENT ON TABLE  ops.rollup_revenue IS 'Fees charged in the period by kind; the revenue is their sum.';
COMMENT ON COLUMN ops.rollup_revenue.grain IS 'week or month.';
COMMENT ON COLUMN ops.rollup_revenue.period_start IS 'First day of the period; weeks begin on Monday.';
COMMENT ON COLUMN ops.rollup_revenue.kind IS 'Kind of the fee.';
COMMENT ON COLUMN ops.rollup_revenue.days_expected IS 'Days in the period.';
COMMENT ON COLUMN ops.rollup_revenue.days_held IS 'Days of it whose figures of this subject the warehouse holds.';
COMMENT ON COLUMN ops.rollup_revenue.is_final IS 'Whether the period is over and all of its days are held.';
COMMENT ON COLUMN ops.rollup_revenue.fees IS 'Number of fees.';
COMMENT ON COLUMN ops.rollup_revenue.amount_usd IS 'Sum of the fees in US dollars.';

CREATE TABLE ops.rollup_support (
    grain                     text NOT NULL CHECK (grain IN ('week', 'month')),
    period_start              date NOT NULL,
    priority                  text NOT NULL,
    days_expected             integer NOT NULL,
    days_held                 integer NOT NULL,
    is_final                  boolean NOT NULL,
    created                   bigint NOT NULL,
    resolved                  bigint NOT NULL,
    first_responses           bigint NOT NULL,
    response_seconds_sum      numeric(20, 3) NOT NULL,
    within_target             bigint NOT NULL,
    breached                  bigint NOT NULL,
    response_average_seconds  numeric(20, 3) GENERATED ALWAYS AS
        (CASE WHEN first_responses > 0 THEN response_seconds_sum / first_responses END) STORED,
    PRIMARY KEY (grain, period_start, priority),
    FOREIGN KEY (grain, period_start) REFERENCES ops.rollup ON DELETE CASCADE
);
COMMENT ON TABLE  ops.rollup_support IS 'Support tickets of the period by priority.';
COMMENT ON COLUMN ops.rollup_support.grain IS 'week or month.';
COMMENT ON COLUMN ops.rollup_support.period_start IS 'First day of the period; weeks begin on Monday.';
COMMENT ON COLUMN ops.rollup_support.priority IS 'high, medium or low.';
COMMENT ON COLUMN ops.rollup_support.days_expected IS 'Days in the period.';
COMMENT ON COLUMN ops.rollup_support.days_held IS 'Days of it whose figures of this subject the warehouse holds.';
COMMENT ON COLUMN ops.rollup_support.is_final IS 'Whether the period is over and all of its days are held.';
COMMENT ON COLUMN ops.rollup_support.created IS 'Tickets created.';
COMMENT ON COLUMN ops.rollup_support.resolved IS 'Tickets resolved.';
COMMENT ON COLUMN ops.rollup_support.first_responses IS 'Tickets first answered.';
COMMENT ON COLUMN ops.rollup_support.response_seconds_sum IS 'Sum of their times from creation to first answer in seconds.';
COMMENT ON COLUMN ops.rollup_support.within_target IS 'Tickets first answered within the target.';
COMMENT ON COLUMN ops.rollup_support.breached IS 'Tickets whose target passed unanswered.';
COMMENT ON COLUMN ops.rollup_support.response_average_seconds IS 'Mean time to the first answer in seconds; absent without answers.';

CREATE TABLE ops.rollup_feedback (
    grain           text NOT NULL CHECK (grain IN ('week', 'month')),
    period_start    date NOT NULL,
    days_expected   integer NOT NULL,
    days_held       integer NOT NULL,
    is_final        boolean NOT NULL,
    ratings         bigint NOT NULL,
    rating_sum      bigint NOT NULL,
    rating_1        bigint NOT NULL,
    rating_2        bigint NOT NULL,
    rating_3        bigint NOT NULL,
    rating_4        bigint NOT NULL,
    rating_5        bigint NOT NULL,
    rating_average  numeric(6, 4) GENERATED ALWAYS AS
        (CASE WHEN ratings > 0 THEN rating_sum::numeric / ratings END) STORED,
    PRIMARY KEY (grain, period_start),
    FOREIGN KEY (grain, period_start) REFERENCES ops.rollup ON DELETE CASCADE
);
COMMENT ON TABLE  ops.rollup_feedback IS 'User feedback of the period.';
COMMENT ON COLUMN ops.rollup_feedback.grain IS 'week or month.';
COMMENT ON COLUMN ops.rollup_feedback.period_start IS 'First day of the period; weeks begin on Monday.';
COMMENT ON COLUMN ops.rollup_feedback.days_expected IS 'Days in the period.';
COMMENT ON COLUMN ops.rollup_feedback.days_held IS 'Days of it whose figures of this subject the warehouse holds.';
COMMENT ON COLUMN ops.rollup_feedback.is_final IS 'Whether the period is over and all of its days are held.';
COMMENT ON COLUMN ops.rollup_feedback.ratings IS 'Ratings given.';
COMMENT ON COLUMN ops.rollup_feedback.rating_sum IS 'Sum of the ratings.';
COMMENT ON COLUMN ops.rollup_feedback.rating_1 IS 'Ratings of 1.';
COMMENT ON COLUMN ops.rollup_feedback.rating_2 IS 'Ratings of 2.';
COMMENT ON COLUMN ops.rollup_feedback.rating_3 IS 'Ratings of 3.';
COMMENT ON COLUMN ops.rollup_feedback.rating_4 IS 'Ratings of 4.';
COMMENT ON COLUMN ops.rollup_feedback.rating_5 IS 'Ratings of 5.';
COMMENT ON COLUMN ops.rollup_feedback.rating_average IS 'Mean rating; absent without ratings.';
