-- The newest report of each kind, without its documents.
SELECT DISTINCT ON (kind)
       kind, period_key, window_start, window_end, title, verdict, headline, completeness, missing, figures,
       first_rendered_at, rendered_at
FROM ops.report
ORDER BY kind, period_key DESC
