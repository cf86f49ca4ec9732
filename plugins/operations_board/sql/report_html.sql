-- The report as a self-contained page.
SELECT html AS document FROM ops.report WHERE kind = %(kind)s AND period_key = %(period_key)s
