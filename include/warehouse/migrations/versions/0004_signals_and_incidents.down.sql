DROP TABLE ops.incident_timeline;
DROP TABLE ops.incident_signal;
DROP TABLE ops.incident;
DROP TABLE ops.incident_counter;
DROP TABLE ops.signal;
DROP FUNCTION ops.refuse_change();
