-- Statements of pace.py, each under its name.

-- statement: replicas
-- How far the replicas are behind, in seconds (NULL when a replica is caught up and idle) and bytes; whether their
-- state may be seen at all (without pg_read_all_stats every column but the process id is NULL). One that only receives
-- the log (pg_receivewal, a base backup) never replays: its lag grows for ever and means nothing.
SELECT count(*) AS replicas,
       count(*) FILTER (WHERE state IS NULL) AS unseen,
       coalesce(max(extract(epoch FROM replay_lag)) FILTER (WHERE replay_lsn IS NOT NULL), 0)::float8 AS seconds,
       coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint AS bytes,
       quote_ident(current_user) AS role
FROM pg_stat_replication;

-- statement: away
-- The slot of the replica that is furthest behind of those that are away: the server keeps all WAL since then for it.
-- For one that is lost already it keeps none.
SELECT slot_name, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint AS bytes
FROM pg_replication_slots
WHERE slot_type = 'physical' AND NOT active AND restart_lsn IS NOT NULL AND wal_status IS DISTINCT FROM 'lost'
ORDER BY 2 DESC LIMIT 1;

-- statement: autovacuum
-- Autovacuum workers that work at the table (or one of its partitions) or wait for it. A role without
-- pg_read_all_stats sees no backend_type, but that a process has no user: of those only they take this lock.
SELECT count(*)
FROM pg_locks l
JOIN pg_stat_activity a ON a.pid = l.pid AND a.usesysid IS NULL
                       AND coalesce(a.backend_type, 'autovacuum worker') = 'autovacuum worker'
WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.relation = %(oid)s OR l.relation IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %(oid)s))
  AND l.mode = 'ShareUpdateExclusiveLock';
