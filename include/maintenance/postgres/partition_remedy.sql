-- Statements of partition_remedy.py, each under its name.

-- statement: references
-- Foreign keys that point to the table: they need a unique key that a partitioned table cannot have without its time.
SELECT k.conrelid::regclass::text || '.' || quote_ident(k.conname)
FROM pg_constraint k WHERE k.confrelid = %(oid)s AND k.contype = 'f' AND k.conparentid = 0 ORDER BY 1;

-- statement: keys
-- Primary keys and unique constraints and indexes: name, columns, whether the time column is among them, constraint or not.
SELECT quote_ident(ic.relname), coalesce(k.contype::text, 'i'),
       (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY u.place)
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS u (number, place)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.number WHERE u.place <= i.indnkeyatts),
       (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attname = %(time_column)s) = ANY (i.indkey),
       i.indpred IS NOT NULL OR i.indexprs IS NOT NULL OR i.indnatts > i.indnkeyatts
FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u') AND k.conrelid = i.indrelid
WHERE i.indrelid = %(oid)s AND i.indisunique ORDER BY k.contype = 'p' DESC NULLS LAST, 1;

-- statement: indexes
SELECT quote_ident(ic.relname), pg_get_indexdef(i.indexrelid)
FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
WHERE i.indrelid = %(oid)s AND NOT i.indisunique AND i.indisvalid ORDER BY 1;

-- statement: identities
SELECT quote_ident(a.attname), CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END
FROM pg_attribute a WHERE a.attrelid = %(oid)s AND a.attidentity <> '' ORDER BY a.attnum;

-- statement: views
-- Views follow the table that they were made of, whatever its name becomes.
SELECT DISTINCT v.oid::regclass::text, pg_get_viewdef(v.oid), array_to_string(v.reloptions, ', '), v.relkind = 'm'
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s
  AND v.oid <> %(oid)s ORDER BY 1;

-- statement: grants
SELECT DISTINCT x.privilege_type, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END, x.is_grantable,
       NULL::text
FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) AS x WHERE c.oid = %(oid)s AND x.grantee <> c.relowner
UNION ALL
SELECT x.privilege_type, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END, x.is_grantable,
       quote_ident(a.attname)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid CROSS JOIN LATERAL aclexplode(a.attacl) AS x
WHERE a.attrelid = %(oid)s AND x.grantee <> c.relowner ORDER BY 2, 1, 4;

-- statement: left_behind
-- What would stay with the old table alone and cannot be carried over by rote, and why.
SELECT 'the trigger ' || quote_ident(t.tgname), 'it would act on the old rows only; drop it before and make it again on the new table'
FROM pg_trigger t WHERE t.tgrelid = %(oid)s AND NOT t.tgisinternal
UNION ALL
SELECT 'the rule ' || quote_ident(r.rulename), 'it would act on the old rows only; drop it before and make it again on the new table'
FROM pg_rewrite r WHERE r.ev_class = %(oid)s
UNION ALL
SELECT 'the exclusion constraint ' || quote_ident(k.conname), 'a partitioned table cannot hold it'
FROM pg_constraint k WHERE k.conrelid = %(oid)s AND k.contype = 'x'
UNION ALL
SELECT 'the constraint ' || quote_ident(k.conname), 'a partitioned table cannot hold one that is NO INHERIT'
FROM pg_constraint k WHERE k.conrelid = %(oid)s AND k.contype = 'c' AND k.connoinherit
UNION ALL
SELECT 'the foreign key ' || quote_ident(k.conname), 'it is NOT VALID; validate it before'
FROM pg_constraint k WHERE k.conrelid = %(oid)s AND k.contype = 'f' AND NOT k.convalidated
UNION ALL
SELECT 'the publication ' || quote_ident(p.pubname), 'it would not publish new rows, or publish them under the names of partitions'
FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = %(oid)s
ORDER BY 1;

-- statement: foreign_keys
-- Those of the table to others. On attaching, the old table's own become parts of them without a look at its rows.
SELECT quote_ident(k.conname), pg_get_constraintdef(k.oid)
FROM pg_constraint k WHERE k.conrelid = %(oid)s AND k.contype = 'f' ORDER BY 1;

-- statement: row_security
SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = %(oid)s;

-- statement: policies
SELECT quote_ident(p.polname), CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
       CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
       (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END, ', ' ORDER BY role)
        FROM unnest(p.polroles) AS role),
       pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
FROM pg_policy p WHERE p.polrelid = %(oid)s ORDER BY p.polname;

-- statement: owner
SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class WHERE oid = %(oid)s;

-- statement: checks
SELECT quote_ident(k.conname), pg_get_constraintdef(k.oid)
FROM pg_constraint k WHERE k.conrelid = %(oid)s AND k.contype = 'c' AND NOT k.connoinherit ORDER BY 1;

-- statement: serials
-- Sequences that a column owns without being its identity.
SELECT s.oid::regclass::text, quote_ident(a.attname)
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refobjid = %(oid)s AND d.deptype = 'a' ORDER BY 1;
