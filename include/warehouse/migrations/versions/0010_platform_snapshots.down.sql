DROP TABLE ops.platform_definition;
DROP TABLE ops.platform_table;
DROP TABLE ops.platform_snapshot;
