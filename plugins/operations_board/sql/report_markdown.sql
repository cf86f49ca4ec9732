-- The report as Markdown.
SELECT markdown AS document FROM ops.report WHERE kind = %(kind)s AND period_key = %(period_key)s
