-- Statements of transactions.py. Parameters: start and end, the first instant of the day and the first one after it.

-- statement: transactions
-- One branch per outcome, so that each can use an index on its own time stamp. Every outcome gives a row.
SELECT 'created' AS outcome, count(*), coalesce(sum(amount_usd), 0), count(*) - count(amount_usd)
FROM operations.transactions WHERE created_at >= %(start)s AND created_at < %(end)s
UNION ALL
SELECT 'completed', count(*), coalesce(sum(amount_usd), 0), count(*) - count(amount_usd)
FROM operations.transactions WHERE completed_at >= %(start)s AND completed_at < %(end)s
UNION ALL
SELECT 'disputed', count(*), coalesce(sum(amount_usd), 0), count(*) - count(amount_usd)
FROM operations.transactions WHERE disputed_at >= %(start)s AND disputed_at < %(end)s
UNION ALL
SELECT 'cancelled', count(*), coalesce(sum(amount_usd), 0), count(*) - count(amount_usd)
FROM operations.transactions WHERE cancelled_at >= %(start)s AND cancelled_at < %(end)s
UNION ALL
SELECT 'failed', count(*), coalesce(sum(amount_usd), 0), count(*) - count(amount_usd)
FROM operations.transactions WHERE failed_at >= %(start)s AND failed_at < %(end)s;

-- statement: revenue
SELECT coalesce(kind, '(unnamed)'), count(*), coalesce(sum(amount_usd), 0), count(*) - count(amount_usd)
FROM operations.fees
WHERE charged_at >= %(start)s AND charged_at < %(end)s
GROUP BY 1;

-- statement: begins
-- Of the time before its oldest row a view tells nothing. Each of these is one look into the index on the time.
SELECT 'transactions', nullif(min(created_at), '-infinity') FROM operations.transactions
UNION ALL SELECT 'fees', nullif(min(charged_at), '-infinity') FROM operations.fees;
