-- The stages of a drill in the order in which they ended.
SELECT name, outcome, seconds, reason, detail
FROM ops.drill_stage
WHERE drill_id = %(drill_id)s
ORDER BY position, name
