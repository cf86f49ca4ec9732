-- Statements of legal_holds.py, each under its name.

-- statement: place
INSERT INTO ops.legal_hold (source_table, time_from, time_until, key_from, key_to, column_name, column_value, reason,
                            placed_by)
VALUES (%(source_table)s, %(time_from)s, %(time_until)s, %(key_from)s, %(key_to)s, %(column_name)s, %(column_value)s,
        %(reason)s, %(placed_by)s)
RETURNING {columns};

-- statement: release
UPDATE ops.legal_hold SET released_at = clock_timestamp(), released_by = %(by)s
WHERE legal_hold_id = %(id)s AND released_at IS NULL
RETURNING {columns};

-- statement: active
-- The holds in force on some tables, on any without one.
SELECT {columns}
FROM ops.legal_hold
WHERE released_at IS NULL AND (cardinality(%(tables)s::text[]) = 0 OR source_table = ANY (%(tables)s))
ORDER BY legal_hold_id;
