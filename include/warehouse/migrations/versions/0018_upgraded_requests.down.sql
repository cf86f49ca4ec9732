ALTER TABLE ops.daily_traffic DROP COLUMN response_average_seconds;
ALTER TABLE ops.daily_traffic
    DROP COLUMN upgrades,
    ADD COLUMN response_average_seconds numeric(14, 6) GENERATED ALWAYS AS
        (CASE WHEN requests > 0 THEN response_seconds_sum / requests END) STORED;
COMMENT ON COLUMN ops.daily_traffic.response_seconds_sum IS 'Sum of the response times in seconds.';
COMMENT ON COLUMN ops.daily_traffic.response_average_seconds IS 'Mean response time in seconds; absent without requests.';
ALTER TABLE ops.rollup_traffic DROP COLUMN response_average_seconds;
ALTER TABLE ops.rollup_traffic
    DROP COLUMN upgrades,
    ADD COLUMN response_average_seconds numeric(14, 6) GENERATED ALWAYS AS
        (CASE WHEN requests > 0 THEN response_seconds_sum / requests END) STORED;
COMMENT ON COLUMN ops.rollup_traffic.response_seconds_sum IS 'Sum of the response times in seconds.';
COMMENT ON COLUMN ops.rollup_traffic.response_average_seconds IS 'Mean response time in seconds; absent without requests.';
COMMENT ON COLUMN ops.hourly_traffic.response_seconds_sum IS 'Sum of the response times in seconds.';
COMMENT ON TABLE  ops.hourly_latency IS 'DDSketch histogram of the response time per hour and endpoint, 1 % relative error; histograms of any windows are merged by summing buckets.';
