DROP TABLE ops.statement_text;
DROP TABLE ops.statement_statistics;
DROP TABLE ops.statement_snapshot;
DROP TABLE ops.index_usage;
DROP VIEW ops.latest_finding;
DROP TABLE ops.finding;
