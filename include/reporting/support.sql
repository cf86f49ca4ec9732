-- Statements of support.py. Parameters: start and end, the first instant of the day and the first one after it;
-- passed_until, the end or now when that is earlier; priorities and targets (seconds), two arrays in the same order.

-- statement: tickets
-- One branch per event, so that each can use an index on its own time stamp. A target passes at creation plus target;
-- an answer at that very instant is within it. The last column counts the tickets with any event in the day.
WITH target AS (
    SELECT priority, make_interval(secs => seconds) AS allowed
    FROM unnest(%(priorities)s::text[], %(targets)s::integer[]) AS given(priority, seconds)
), event AS (
    SELECT 'created' AS kind, ticket_id::text AS ticket_id, priority, NULL::interval AS waited
    FROM operations.support_tickets WHERE created_at >= %(start)s AND created_at < %(end)s
    UNION ALL
    SELECT 'resolved', ticket_id::text, priority, NULL
    FROM operations.support_tickets WHERE resolved_at >= %(start)s AND resolved_at < %(end)s
    UNION ALL
    SELECT 'answered', ticket_id::text, priority, first_response_at - created_at
    FROM operations.support_tickets WHERE first_response_at >= %(start)s AND first_response_at < %(end)s
    UNION ALL
    SELECT 'breached', ticket_id::text, ticket.priority, NULL
    FROM operations.support_tickets AS ticket JOIN target ON target.priority = ticket.priority
    WHERE ticket.created_at >= %(start)s - target.allowed AND ticket.created_at < %(passed_until)s - target.allowed
      AND (ticket.first_response_at IS NULL OR ticket.first_response_at > ticket.created_at + target.allowed)
)
SELECT coalesce(nullif(event.priority, ''), '(none)') AS priority,
       count(*) FILTER (WHERE kind = 'created'),
       count(*) FILTER (WHERE kind = 'resolved'),
       count(*) FILTER (WHERE kind = 'answered'),
       round(coalesce(extract(epoch FROM sum(waited)), 0)::numeric, 3),
       count(*) FILTER (WHERE kind = 'answered' AND waited <= target.allowed),
       count(*) FILTER (WHERE kind = 'breached'),
       count(DISTINCT ticket_id)
FROM event LEFT JOIN target ON target.priority = event.priority
GROUP BY 1;

-- statement: feedback
SELECT rating, count(*)
FROM operations.feedback
WHERE given_at >= %(start)s AND given_at < %(end)s
GROUP BY rating;

-- statement: begins
-- Of the time before its oldest row a view tells nothing. Each of these is one look into the index on the time.
SELECT 'support_tickets', nullif(min(created_at), '-infinity') FROM operations.support_tickets
UNION ALL SELECT 'feedback', nullif(min(given_at), '-infinity') FROM operations.feedback;
