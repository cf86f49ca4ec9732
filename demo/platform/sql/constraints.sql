-- Foreign keys and indexes, apart from the tables: a bulk load takes them down and builds them anew.
-- Running it again changes nothing.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('sessions', 'user_id', 'users'),
            ('page_views', 'session_id', 'sessions'),
            ('page_views', 'user_id', 'users'),
            ('transactions', 'buyer_id', 'users'),
            ('transactions', 'seller_id', 'users'),
            ('fees', 'transaction_id', 'transactions'),
            ('support_tickets', 'user_id', 'users'),
            ('feedback', 'user_id', 'users'),
            ('authentication_events', 'user_id', 'users')
        ) AS keys (child, child_column, parent)
    LOOP
        IF NOT EXISTS (
            SELECT FROM pg_constraint
            WHERE conrelid = format('public.%I', wanted.child)::regclass
              AND conname = wanted.child || '_' || wanted.child_column || '_fkey'
        ) THEN
            -- The parent's key is its first column, which bears the same name unless it is a role such as buyer_id.
            EXECUTE format(
                'ALTER TABLE public.%I ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES public.%I',
                wanted.child, wanted.child || '_' || wanted.child_column || '_fkey', wanted.child_column, wanted.parent
            );
        END IF;
    END LOOP;
END $$;

CREATE INDEX IF NOT EXISTS users_registered_at ON public.users (registered_at);
CREATE INDEX IF NOT EXISTS sessions_started_at ON public.sessions (started_at);
CREATE INDEX IF NOT EXISTS page_views_viewed_at ON public.page_views (viewed_at);
CREATE INDEX IF NOT EXISTS transactions_created_at ON public.transactions (created_at);
CREATE INDEX IF NOT EXISTS transactions_completed_at ON public.transactions (completed_at);
CREATE INDEX IF NOT EXISTS transactions_disputed_at ON public.transactions (disputed_at) WHERE disputed_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS transactions_cancelled_at ON public.transactions (cancelled_at) WHERE cancelled_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS transactions_failed_at ON public.transactions (failed_at) WHERE failed_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS fees_charged_at ON public.fees (charged_at);
CREATE INDEX IF NOT EXISTS fees_transaction_id ON public.fees (transaction_id);
CREATE INDEX IF NOT EXISTS support_tickets_created_at ON public.support_tickets (created_at);
CREATE INDEX IF NOT EXISTS feedback_given_at ON public.feedback (given_at);
CREATE INDEX IF NOT EXISTS authentication_events_occurred_at ON public.authentication_events (occurred_at);
CREATE INDEX IF NOT EXISTS audit_logs_created_at ON public.audit_logs (created_at);
