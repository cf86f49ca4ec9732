-- Stores one report; returns whether its content changed (a changed report carries this transaction's time).
INSERT INTO ops.report (
    kind, period_key, window_start, window_end, title, verdict, headline, completeness, missing, figures,
    markdown, html, input_hash, own_inputs
) VALUES (
    %(kind)s, %(period_key)s, %(window_start)s, %(window_end)s, %(title)s, %(verdict)s, %(headline)s, %(completeness)s,
    %(missing)s, %(figures)s, %(markdown)s, %(html)s, %(input_hash)s, %(own_inputs)s
)
ON CONFLICT (kind, period_key) DO UPDATE SET
    window_start = EXCLUDED.window_start,
    window_end = EXCLUDED.window_end,
    title = EXCLUDED.title,
    verdict = EXCLUDED.verdict,
    headline = EXCLUDED.headline,
    completeness = EXCLUDED.completeness,
    missing = EXCLUDED.missing,
    figures = EXCLUDED.figures,
    markdown = EXCLUDED.markdown,
    html = EXCLUDED.html,
    input_hash = EXCLUDED.input_hash,
    own_inputs = EXCLUDED.own_inputs,
    rendered_at = CASE
        WHEN (report.markdown, report.html, report.input_hash)
            IS DISTINCT FROM (EXCLUDED.markdown, EXCLUDED.html, EXCLUDED.input_hash) THEN now()
        ELSE report.rendered_at
    END,
    delivered_at = CASE
        WHEN (report.markdown, report.html, report.input_hash)
            IS DISTINCT FROM (EXCLUDED.markdown, EXCLUDED.html, EXCLUDED.input_hash) THEN NULL
        ELSE report.delivered_at
    END
RETURNING rendered_at = now()
