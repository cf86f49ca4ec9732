-- What each role may do, and nothing else. Running it again changes nothing.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM escrow_app, operations_reader, operations_maintainer;
REVOKE ALL ON ALL TABLES IN SCHEMA operations FROM escrow_app, operations_reader, operations_maintainer;

-- The web application inserts what happens and fills in the times of states; it deletes nothing.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO escrow_app;
REVOKE SELECT ON public.audit_logs FROM escrow_app;
GRANT INSERT ON public.users, public.sessions, public.page_views, public.transactions, public.fees,
    public.support_tickets, public.feedback, public.authentication_events, public.audit_logs TO escrow_app;
GRANT UPDATE (verified_at) ON public.users TO escrow_app;
GRANT UPDATE (user_id, ended_at) ON public.sessions TO escrow_app;
GRANT UPDATE (funded_at, disputed_at, completed_at, refunded_at, cancelled_at, failed_at, chain_transaction_hash,
              dispute_chain_hash, settlement_chain_hash)
    ON public.transactions TO escrow_app;
GRANT UPDATE (first_response_at, resolved_at) ON public.support_tickets TO escrow_app;

GRANT USAGE ON SCHEMA operations TO operations_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA operations TO operations_reader;

-- The weekly review plans the application's queries on these, which takes the right to read them; no personal data.
GRANT SELECT ON public.transactions, public.fees, public.sessions, public.page_views TO operations_maintainer;

-- The monthly forecast reads how far their numbers have come.
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO operations_maintainer;

-- VACUUM and ANALYZE come with pg_maintain (PostgreSQL 17); pruning needs these two on the one table that is pruned.
GRANT SELECT, DELETE ON public.audit_logs TO operations_maintainer;
