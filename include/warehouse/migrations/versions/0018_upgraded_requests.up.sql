-- The expression of a generated column can be changed from PostgreSQL 17 on only, so it is made again.
ALTER TABLE ops.daily_traffic DROP COLUMN response_average_seconds;
ALTER TABLE ops.daily_traffic
    ADD COLUMN upgrades bigint NOT NULL DEFAULT 0,
    ADD COLUMN response_average_seconds numeric(14, 6) GENERATED ALWAYS AS
        (CASE WHEN requests > upgrades THEN response_seconds_sum / (requests - upgrades) END) STORED;
COMMENT ON COLUMN ops.daily_traffic.upgrades IS 'Requests whose time is left out of the response times: those answered with status 101, connections of another protocol such as WebSocket. None of days computed before migration 0018: their response times hold how long such connections lasted.';
COMMENT ON COLUMN ops.daily_traffic.response_seconds_sum IS 'Sum of the response times in seconds, without upgrades.';
COMMENT ON COLUMN ops.daily_traffic.response_average_seconds IS 'response_seconds_sum / (requests - upgrades), the mean response time in seconds; absent without such requests.';
ALTER TABLE ops.rollup_traffic DROP COLUMN response_average_seconds;
ALTER TABLE ops.rollup_traffic
    ADD COLUMN upgrades bigint NOT NULL DEFAULT 0,
    ADD COLUMN response_average_seconds numeric(14, 6) GENERATED ALWAYS AS
        (CASE WHEN requests > upgrades THEN response_seconds_sum / (requests - upgrades) END) STORED;
COMMENT ON COLUMN ops.rollup_traffic.upgrades IS 'Requests whose time is left out of the response times: those answered with status 101, connections of another protocol such as WebSocket. None of days computed before migration 0018: their response times hold how long such connections lasted.';
COMMENT ON COLUMN ops.rollup_traffic.response_seconds_sum IS 'Sum of the response times in seconds, without upgrades.';
COMMENT ON COLUMN ops.rollup_traffic.response_average_seconds IS 'response_seconds_sum / (requests - upgrades), the mean response time in seconds; absent without such requests.';
COMMENT ON COLUMN ops.hourly_traffic.response_seconds_sum IS 'Sum of the response times in seconds; a request answered with status 101 has none.';
COMMENT ON TABLE  ops.hourly_latency IS 'DDSketch histogram of the response time per hour and endpoint, 1 % relative error; histograms of any windows are merged by summing buckets. Requests answered with status 101 have no response time and stand in no bucket.';
