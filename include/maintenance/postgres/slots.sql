-- Statements of slots.py, each under its name.

-- statement: slots
-- What each slot keeps. Columns that a version lacks are read from the row as JSON: invalidation_reason, inactive_since
-- and synced exist since PostgreSQL 17. On a standby the end of the WAL is what it has received. The position moves
-- whenever somebody reads the slot. The age from which vacuum has to freeze whatever else is to be done tells how much a
-- slot may hold it back.
SELECT s.slot_name, s.slot_type, s.plugin, s.database, s.active, s.temporary, s.wal_status, s.safe_wal_size,
       pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
                            ELSE pg_current_wal_lsn() END, s.restart_lsn)::bigint AS retained_bytes,
       concat_ws(' ', s.restart_lsn, s.confirmed_flush_lsn) AS position,
       greatest(age(s.xmin), age(s.catalog_xmin))::bigint AS transaction_age,
       current_setting('autovacuum_freeze_max_age')::bigint AS freeze_age, clock_timestamp() AS seen_at,
       to_jsonb(s) ->> 'invalidation_reason' AS invalidation_reason,
       (to_jsonb(s) ->> 'inactive_since')::timestamptz AS inactive_since,
       coalesce((to_jsonb(s) ->> 'synced')::boolean, false) AS synced
FROM pg_replication_slots s ORDER BY s.slot_name;

-- statement: limit
SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size';

-- statement: prepared
SELECT p.gid, p.owner::text, p.database::text, p.prepared,
       extract(epoch FROM clock_timestamp() - p.prepared)::double precision, age(p.transaction)::bigint
FROM pg_prepared_xacts p ORDER BY p.prepared;

-- statement: prepared_allowed
SELECT setting::integer FROM pg_settings WHERE name = 'max_prepared_transactions';
