-- Statements of incidents.py, each under its name. An incident is open in the states detected, acknowledged and
-- mitigated; the list is repeated word for word so that the partial unique index applies. A signal was seen when it
-- occurred, but not after it came: the clock of its worker may be ahead.

-- statement: pending
-- What signals that belong to no incident yet are about, the longest waiting first.
SELECT s.fingerprint
FROM ops.signal s
WHERE NOT EXISTS (SELECT FROM ops.incident_signal i WHERE i.signal_id = s.signal_id)
GROUP BY s.fingerprint
ORDER BY min(s.signal_id);

-- statement: waiting
-- How many signals belong to no incident yet, since when the first of them waits, and how long.
SELECT count(*) AS signals, min(s.received_at) AS since, now() - min(s.received_at) AS waited
FROM ops.signal s
WHERE NOT EXISTS (SELECT FROM ops.incident_signal i WHERE i.signal_id = s.signal_id);

-- statement: sorted
-- The waiting signals of a fingerprint. When a run fails, hours later perhaps, of a task that was told as failed,
-- nothing has failed again: the end of such a run comes with the signal of its task. Where the incident of the task is
-- closed, only that of a run that never was cleared (its try_number): else the task may have been killed since.
WITH waiting AS (
    SELECT s.signal_id, s.detail ->> 'run_id' AS run_id
    FROM ops.signal s
    WHERE s.fingerprint = %(fingerprint)s
      AND NOT EXISTS (SELECT FROM ops.incident_signal i WHERE i.signal_id = s.signal_id)
), ordered AS (
    SELECT signal_id, kind, detail ->> 'try_number' AS cleared,
           lag(kind) OVER run AS before, lag(signal_id) OVER run AS told
    FROM ops.signal
    WHERE fingerprint = %(fingerprint)s AND detail ->> 'run_id' IN (SELECT run_id FROM waiting)
    WINDOW run AS (
        PARTITION BY detail ->> 'run_id', coalesce(nullif(detail ->> 'task_id', ''), detail ->> 'task'),
                     detail ->> 'map_index'
        ORDER BY signal_id
    )
), known AS (
    SELECT ordered.signal_id, ordered.told
    FROM ordered
    LEFT JOIN ops.incident_signal i ON i.signal_id = ordered.told
    LEFT JOIN ops.incident USING (incident_id)
    WHERE ordered.kind = 'dag_failed' AND ordered.before = 'task_failed'
      AND (ordered.cleared = '0' OR coalesce(incident.state, 'detected') IN ('detected', 'acknowledged', 'mitigated'))
)
SELECT waiting.signal_id, known.told FROM waiting LEFT JOIN known USING (signal_id) ORDER BY waiting.signal_id;

-- statement: create
-- Opens an incident for the earliest of some signals, with its number, its link and its first timeline entry.
-- Gives no row when another incident of the fingerprint is open; the number must then be given back (roll back).
WITH first AS (
    SELECT s.*, least(s.occurred_at, s.received_at) AS seen_at
    FROM ops.signal s
    WHERE s.signal_id = ANY(%(news)s::bigint[])
    ORDER BY seen_at, s.signal_id
    LIMIT 1
), number AS (
    INSERT INTO ops.incident_counter AS counter (year, last)
    SELECT date_part('year', first.seen_at AT TIME ZONE 'UTC')::integer, 1 FROM first
    ON CONFLICT (year) DO UPDATE SET last = counter.last + 1
    RETURNING year, last
), opened AS (
    INSERT INTO ops.incident (incident_id, fingerprint, class, state, title, affected, detected_at, last_seen_at)
    SELECT 'INC-' || lpad(number.year::text, 4, '0')
               || '-' || lpad(number.last::text, greatest(3, length(number.last::text)), '0'),
           first.fingerprint, first.class, 'detected', first.title,
           coalesce(first.detail ->> 'affected', 'DAG ' || (first.detail ->> 'dag_id'), first.fingerprint),
           first.seen_at, first.seen_at
    FROM first, number
    ON CONFLICT (fingerprint) WHERE state IN ('detected', 'acknowledged', 'mitigated') DO NOTHING
    RETURNING incident_id
), linked AS (
    INSERT INTO ops.incident_signal (signal_id, incident_id)
    SELECT first.signal_id, opened.incident_id FROM first, opened
), told AS (
    INSERT INTO ops.incident_timeline (incident_id, entry, at, actor, kind, message, detail)
    SELECT opened.incident_id, 1, first.seen_at, %(actor)s, 'detected', first.title,
           first.detail || jsonb_build_object('signal_id', first.signal_id, 'class', first.class)
    FROM first, opened
)
SELECT incident_id FROM opened;

-- statement: attach
-- Adds those of some signals that no incident has yet to the open one. The caller holds the lock of the incident's row.
WITH waiting AS (
    SELECT s.*, least(s.occurred_at, s.received_at) AS seen_at
    FROM ops.signal s
    WHERE s.signal_id = ANY(%(news)s::bigint[])
      AND NOT EXISTS (SELECT FROM ops.incident_signal i WHERE i.signal_id = s.signal_id)
), linked AS (
    INSERT INTO ops.incident_signal (signal_id, incident_id)
    SELECT signal_id, %(incident_id)s FROM waiting
), seen AS (
    SELECT count(*) AS times, min(seen_at) AS earliest, max(seen_at) AS latest FROM waiting
), last AS (
    SELECT title, detail, seen_at, signal_id FROM waiting ORDER BY seen_at DESC, signal_id DESC LIMIT 1
), worst AS (
    SELECT class, title, seen_at, signal_id FROM waiting ORDER BY class, seen_at, signal_id LIMIT 1
), before AS (
    SELECT class, (SELECT coalesce(max(entry), 0) FROM ops.incident_timeline WHERE incident_id = %(incident_id)s) AS entry
    FROM ops.incident
    WHERE incident_id = %(incident_id)s
), changed AS (
    UPDATE ops.incident
    SET occurrences = occurrences + seen.times,
        detected_at = least(detected_at, seen.earliest),
        last_seen_at = greatest(last_seen_at, seen.latest),
        class = least(incident.class, worst.class)
    FROM seen, worst
    WHERE incident_id = %(incident_id)s
), told AS (
    INSERT INTO ops.incident_timeline (incident_id, entry, at, actor, kind, message, detail)
    SELECT %(incident_id)s, before.entry + 1, last.seen_at, %(actor)s, 'seen_again',
           CASE seen.times WHEN 1 THEN 'Seen again: ' ELSE 'Seen ' || seen.times || ' more times, last: ' END || last.title,
           last.detail || jsonb_build_object('signal_id', last.signal_id, 'signals', seen.times, 'earliest', seen.earliest)
    FROM before, seen, last
    UNION ALL
    SELECT %(incident_id)s, before.entry + 2, worst.seen_at, %(actor)s, 'class_raised',
           'Raised from ' || before.class || ' to ' || worst.class || ': ' || worst.title,
           jsonb_build_object('from', before.class, 'to', worst.class, 'signal_id', worst.signal_id)
    FROM before, worst
    WHERE worst.class < before.class
)
SELECT times FROM seen;

-- statement: hold
-- Locks the incidents of some signals of failed tasks.
SELECT incident_id
FROM ops.incident
WHERE incident_id IN (SELECT i.incident_id FROM ops.incident_signal i WHERE i.signal_id = ANY(%(told)s::bigint[]))
ORDER BY incident_id
FOR UPDATE;

-- statement: end_runs
-- Adds the ends of runs to the incidents of the failed tasks that they end of, open or not; last_seen_at and the state
-- stay. The caller holds the locks of the incidents' rows.
WITH ended AS (
    SELECT s.*, least(s.occurred_at, s.received_at) AS seen_at, i.incident_id
    FROM unnest(%(ends)s::bigint[], %(told)s::bigint[]) AS given (signal_id, told)
    JOIN ops.signal s ON s.signal_id = given.signal_id
    JOIN ops.incident_signal i ON i.signal_id = given.told
), linked AS (
    INSERT INTO ops.incident_signal (signal_id, incident_id)
    SELECT signal_id, incident_id FROM ended
), counted AS (
    UPDATE ops.incident
    SET occurrences = occurrences + many.times
    FROM (SELECT incident_id, count(*) AS times FROM ended GROUP BY incident_id) AS many
    WHERE incident.incident_id = many.incident_id
)
INSERT INTO ops.incident_timeline (incident_id, entry, at, actor, kind, message, detail)
SELECT incident_id,
       (SELECT coalesce(max(entry), 0) FROM ops.incident_timeline t WHERE t.incident_id = ended.incident_id)
           + row_number() OVER (PARTITION BY incident_id ORDER BY seen_at, signal_id),
       seen_at, %(actor)s, 'run_ended', 'The run ended: ' || title, detail || jsonb_build_object('signal_id', signal_id)
FROM ended;

-- statement: change_state
-- Moves an incident to a state and says so in its timeline. The caller holds the lock of the incident's row.
WITH changed AS (
    UPDATE ops.incident
    SET state = %(state)s,
        acknowledged_at = CASE WHEN %(state)s = 'acknowledged' THEN now() ELSE acknowledged_at END,
        resolved_at = CASE WHEN %(state)s = 'resolved' THEN now() ELSE resolved_at END
    WHERE incident_id = %(incident_id)s
)
INSERT INTO ops.incident_timeline (incident_id, entry, at, actor, kind, message, detail)
SELECT %(incident_id)s, coalesce(max(entry), 0) + 1, now(), %(actor)s, %(state)s, %(message)s,
       jsonb_build_object('from', %(before)s::text)
FROM ops.incident_timeline
WHERE incident_id = %(incident_id)s;

-- statement: open
-- What people work on now, the worst first, each with the title of its latest signal.
SELECT incident_id, class, state, title, affected, detected_at, last_seen_at, occurrences, acknowledged_at,
       {last_title} AS last_title
FROM ops.incident
WHERE state IN ('detected', 'acknowledged', 'mitigated')
ORDER BY class, detected_at, incident_id;
