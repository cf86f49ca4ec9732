-- One report without its documents, and its neighbours of the same kind.
SELECT report.kind, report.period_key, report.title, report.verdict, report.headline, report.completeness,
       report.missing, report.rendered_at,
       (SELECT max(earlier.period_key) FROM ops.report AS earlier
        WHERE earlier.kind = report.kind AND earlier.period_key < report.period_key) AS previous_key,
       (SELECT min(later.period_key) FROM ops.report AS later
        WHERE later.kind = report.kind AND later.period_key > report.period_key) AS next_key
FROM ops.report
WHERE report.kind = %(kind)s AND report.period_key = %(period_key)s
