DROP TABLE ops.rollup_announcement;
