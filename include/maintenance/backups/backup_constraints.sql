-- Statements of backup_constraints.py, each under its name.

-- statement: unvalidated
-- Constraints that have not been checked against all rows.
SELECT n.nspname, c.relname, k.conname
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT k.convalidated AND k.contype IN ('c', 'f', 'n') AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'
ORDER BY 1, 2, 3;

-- statement: constraint_count
SELECT count(*) FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema';

-- statement: invalid_indexes
SELECT format('%I.%I', n.nspname, c.relname)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid ORDER BY 1;

-- statement: foreign_keys
-- Every foreign key that counts as validated: its table, its name, and the query for the number of rows that lead nowhere.
-- One of a partitioned table stands for those of its partitions. The operators are those of the key itself, with the
-- collation of the table that is referred to, as the server's own check has them; periods must be covered by all rows together.
WITH parts AS (
    SELECT k.oid, k.conname, k.conrelid, k.confrelid, k.confmatchtype = 'f' AS full_match,
           CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END || k.conrelid::regclass AS rows_of,
           CASE r.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END || k.confrelid::regclass AS refers_to,
           f.attname AS from_column, p.attname AS to_column,
           to_jsonb(k) ->> 'conperiod' = 'true' AND u.place = cardinality(k.conkey) AS period,
           format('p.%I%s OPERATOR(%s.%s) f.%I%s%s',
                  p.attname, CASE WHEN lt.oid <> p.atttypid THEN format('::%s.%I', lt.typnamespace::regnamespace, lt.typname) END,
                  o.oprnamespace::regnamespace, o.oprname,
                  f.attname, CASE WHEN rt.oid <> f.atttypid THEN format('::%s.%I', rt.typnamespace::regnamespace, rt.typname) END,
                  CASE WHEN p.attcollation <> 0 AND f.attcollation <> 0 THEN ' COLLATE ' || p.attcollation::regcollation END)
               AS equal
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid
    JOIN pg_class r ON r.oid = k.confrelid
    CROSS JOIN LATERAL unnest(k.conkey, k.confkey, k.conpfeqop) WITH ORDINALITY AS u (from_number, to_number, operator, place)
    JOIN pg_attribute f ON f.attrelid = k.conrelid AND f.attnum = u.from_number
    JOIN pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = u.to_number
    JOIN pg_operator o ON o.oid = u.operator
    LEFT JOIN pg_type lt ON lt.oid = o.oprleft AND lt.typtype <> 'p'
    LEFT JOIN pg_type rt ON rt.oid = o.oprright AND rt.typtype <> 'p'
    WHERE k.contype = 'f' AND k.convalidated AND k.conparentid = 0 AND c.relpersistence <> 't'
      AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'
)
SELECT conrelid::regclass::text, ARRAY[quote_ident(conname)],
       format('SELECT count(*) FROM %s AS f WHERE (%s) AND NOT ', rows_of,
              string_agg(format('f.%I IS NOT NULL', from_column), CASE WHEN full_match THEN ' OR ' ELSE ' AND ' END))
       || CASE WHEN bool_or(period)
               THEN format('coalesce(f.%I <@ (SELECT range_agg(p.%I) FROM %s AS p WHERE %s), false)',
                           max(from_column) FILTER (WHERE period), max(to_column) FILTER (WHERE period), refers_to,
                           coalesce(string_agg(equal, ' AND ') FILTER (WHERE NOT period), 'true'))
               ELSE format('EXISTS (SELECT FROM %s AS p WHERE %s)', refers_to, string_agg(equal, ' AND ')) END
FROM parts
GROUP BY oid, conname, conrelid, full_match, rows_of, refers_to
ORDER BY 1, 2;

-- statement: checks
-- The CHECK constraints of each table that count as validated, with the query for the numbers of rows that break them.
-- Partitions and children have their own.
SELECT c.oid::regclass::text, array_agg(quote_ident(k.conname) ORDER BY k.conname),
       format('SELECT %s FROM ONLY %s',
              string_agg(format('count(*) FILTER (WHERE NOT (%s))', pg_get_expr(k.conbin, k.conrelid)), ', ' ORDER BY k.conname),
              c.oid::regclass)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.contype = 'c' AND k.convalidated AND c.relkind = 'r' AND c.relpersistence <> 't'
  AND c.relnamespace <> 'pg_catalog'::regnamespace AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'
GROUP BY c.oid
ORDER BY 1;
