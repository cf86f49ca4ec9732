-- The source contract: what the collection's figures are made of; maintenance works on the tables themselves.
--
-- To connect a platform, create these views in a schema named "operations" over your own tables and grant
-- SELECT on them to the role of the connection platform_db; then run: python -m include.platform check
-- This file is the reference that the check compares with. Names and meanings are fixed. Types: an identifier may be
-- any of integer, bigint, uuid or text; times are timestamptz; money is numeric.
-- Every time stamp must stand still once it is set: that is what makes a past day give the same figures again.

CREATE SCHEMA IF NOT EXISTS operations;

CREATE VIEW operations.users AS SELECT
    NULL::bigint      AS user_id,            -- identifier
    NULL::timestamptz AS registered_at,
    NULL::timestamptz AS verified_at         -- null until the user is verified
WHERE false;

CREATE VIEW operations.sessions AS SELECT
    NULL::bigint      AS session_id,         -- identifier
    NULL::bigint      AS user_id,            -- identifier; null for a visitor who is not logged in
    NULL::timestamptz AS started_at
WHERE false;

CREATE VIEW operations.page_views AS SELECT
    NULL::bigint      AS user_id,            -- identifier; null for a visitor who is not logged in
    NULL::timestamptz AS viewed_at,
    NULL::text        AS path
WHERE false;

CREATE VIEW operations.transactions AS SELECT
    NULL::bigint      AS transaction_id,     -- identifier
    NULL::timestamptz AS created_at,
    NULL::timestamptz AS completed_at,       -- each null unless the transaction reached that state
    NULL::timestamptz AS disputed_at,
    NULL::timestamptz AS cancelled_at,
    NULL::timestamptz AS failed_at,
    NULL::numeric     AS amount_usd,
    NULL::text        AS chain_transaction_hash  -- null for a transaction that is not on the chain
WHERE false;

CREATE VIEW operations.fees AS SELECT
    NULL::bigint      AS fee_id,             -- identifier
    NULL::text        AS kind,               -- for example escrow or dispute; refunds have a negative amount
    NULL::timestamptz AS charged_at,
    NULL::numeric     AS amount_usd
WHERE false;

CREATE VIEW operations.support_tickets AS SELECT
    NULL::bigint      AS ticket_id,          -- identifier
    NULL::text        AS priority,           -- high, medium or low
    NULL::timestamptz AS created_at,
    NULL::timestamptz AS first_response_at,  -- null until answered
    NULL::timestamptz AS resolved_at         -- null until resolved
WHERE false;

CREATE VIEW operations.feedback AS SELECT
    NULL::bigint      AS feedback_id,        -- identifier
    NULL::timestamptz AS given_at,
    NULL::integer     AS rating              -- 1 (worst) to 5 (best)
WHERE false;

CREATE VIEW operations.authentication_events AS SELECT
    NULL::bigint      AS event_id,           -- identifier
    NULL::bigint      AS user_id,            -- identifier; null when the name is not known
    NULL::timestamptz AS occurred_at,
    NULL::text        AS kind,               -- login, logout or password_reset
    NULL::boolean     AS succeeded,
    NULL::text        AS address             -- network address of the client
WHERE false;

CREATE VIEW operations.audit_logs AS SELECT
    NULL::bigint      AS audit_log_id,       -- identifier
    NULL::timestamptz AS created_at,
    NULL::text        AS actor,
    NULL::text        AS action
WHERE false;
