-- Statements of users.py. Parameters: start and end, the first instant of the day and the first one after it.

-- statement: viewers
-- One pass over the day's page views. The identifier's text is hashed, so that its type does not matter; the first 14
-- of 64 bits of md5 name the register, the place of the first 1 in the other 50 is the rank (51 when there is none).
WITH viewer AS (
    SELECT user_id::text AS user_id, count(*) AS page_views
    FROM operations.page_views
    WHERE viewed_at >= %(start)s AND viewed_at < %(end)s
    GROUP BY user_id::text
), hashed AS (
    SELECT ('x' || left(md5(user_id), 16))::bit(64) AS bits
    FROM viewer
    WHERE user_id IS NOT NULL
), sketch AS (
    SELECT substring(bits FROM 1 FOR 14)::bit(14)::integer AS register,
           max(coalesce(nullif(position(B'1' IN substring(bits FROM 15 FOR 50)), 0), 51)) AS rank
    FROM hashed
    GROUP BY 1
)
SELECT (SELECT count(user_id) FROM viewer) AS active_users,
       (SELECT coalesce(sum(page_views), 0)::bigint FROM viewer) AS page_views,
       (SELECT coalesce(sum(page_views), 0)::bigint FROM viewer WHERE user_id IS NULL) AS page_views_without_user,
       (SELECT coalesce(array_agg(register ORDER BY register), '{}') FROM sketch) AS registers,
       (SELECT coalesce(array_agg(rank ORDER BY register), '{}') FROM sketch) AS ranks;

-- statement: activity
-- "Verified" looks no further than the end of the day, so that a past day gives the same figures for ever.
SELECT (SELECT count(*) FROM operations.sessions WHERE started_at >= %(start)s AND started_at < %(end)s) AS sessions,
       count(*) AS new_users,
       count(*) FILTER (WHERE verified_at < %(end)s) AS verified_users
FROM operations.users
WHERE registered_at >= %(start)s AND registered_at < %(end)s;

-- statement: begins
-- Of the time before its oldest row a view tells nothing. Each of these is one look into the index on the time.
SELECT 'page_views', nullif(min(viewed_at), '-infinity') FROM operations.page_views
UNION ALL SELECT 'sessions', nullif(min(started_at), '-infinity') FROM operations.sessions
UNION ALL SELECT 'users', nullif(min(registered_at), '-infinity') FROM operations.users;
