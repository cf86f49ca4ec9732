-- The source contract over the platform's own tables (see docs/source-contract.md). Running it again changes nothing.
-- The views run with the rights of their owner, so a reader needs no right on the tables.
CREATE SCHEMA IF NOT EXISTS operations;
COMMENT ON SCHEMA operations IS 'What operations may read of the platform: the source contract.';

CREATE OR REPLACE VIEW operations.users AS
    SELECT user_id, registered_at, verified_at FROM public.users;

CREATE OR REPLACE VIEW operations.sessions AS
    SELECT session_id, user_id, started_at FROM public.sessions;

CREATE OR REPLACE VIEW operations.page_views AS
    SELECT user_id, viewed_at, path FROM public.page_views;

CREATE OR REPLACE VIEW operations.transactions AS
    SELECT transaction_id, created_at, completed_at, disputed_at, cancelled_at, failed_at, amount_usd,
           chain_transaction_hash
    FROM public.transactions;

CREATE OR REPLACE VIEW operations.fees AS
    SELECT fee_id, kind, charged_at, amount_usd FROM public.fees;

CREATE OR REPLACE VIEW operations.support_tickets AS
    SELECT ticket_id, priority, created_at, first_response_at, resolved_at FROM public.support_tickets;

CREATE OR REPLACE VIEW operations.feedback AS
    SELECT feedback_id, given_at, rating FROM public.feedback;

CREATE OR REPLACE VIEW operations.authentication_events AS
    SELECT event_id, user_id, occurred_at, kind, succeeded, address FROM public.authentication_events;

CREATE OR REPLACE VIEW operations.audit_logs AS
    SELECT audit_log_id, created_at, actor, action FROM public.audit_logs;
