-- The newest report of each kind, without its documents.
SELECT DISTINCT ON (kind)
       kind, period_key, window_end, title, verdict, headline, completeness, missing, figures, rendered_at
FROM ops.report
ORDER BY kind, period_key DESC
