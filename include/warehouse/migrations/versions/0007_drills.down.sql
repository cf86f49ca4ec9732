DROP TABLE ops.drill_stage;
DROP TABLE ops.drill;
