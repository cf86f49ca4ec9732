DROP TABLE ops.archive;
DROP TABLE ops.maintenance_action;
DROP TABLE ops.report;
