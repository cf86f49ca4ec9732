-- Statements of partition_exchange.py, each under its name: what the new table takes over.

-- statement: table
SELECT quote_ident(pg_get_userbyid(c.relowner)), quote_ident(s.spcname),
       quote_literal(obj_description(c.oid, 'pg_class')), c.relreplident::text
FROM pg_class c LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace WHERE c.oid = %(oid)s;

-- statement: storage
-- The storage parameters, which a partitioned table cannot have itself, and those of what is stored beside it.
SELECT string_agg(format('%%s=%%L', prefix || option_name, option_value), ', ' ORDER BY prefix, option_name)
FROM (SELECT '' AS prefix, c.reloptions FROM pg_class c WHERE c.oid = %(oid)s
      UNION ALL
      SELECT 'toast.', t.reloptions FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.oid = %(oid)s) AS o
CROSS JOIN LATERAL pg_options_to_table(o.reloptions);

-- statement: statistics_targets
SELECT quote_ident(a.attname), a.attstattarget
FROM pg_attribute a WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0 ORDER BY a.attnum;

-- statement: not_carried
SELECT 'the extended statistics ' || format('%%I.%%I', n.nspname, s.stxname)
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = %(oid)s
UNION ALL
SELECT 'the options of the column ' || quote_ident(a.attname)
FROM pg_attribute a WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped AND a.attoptions IS NOT NULL
UNION ALL
SELECT 'the tablespace of the index ' || quote_ident(ic.relname)
FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = %(oid)s AND ic.reltablespace <> 0
UNION ALL
SELECT 'the storage parameters of the key ' || quote_ident(ic.relname)
FROM pg_constraint k JOIN pg_class ic ON ic.oid = k.conindid
WHERE k.conrelid = %(oid)s AND k.contype IN ('p', 'u') AND ic.reloptions IS NOT NULL
UNION ALL
SELECT DISTINCT 'the security label of ' || l.provider FROM pg_seclabel l WHERE l.classoid = 'pg_class'::regclass AND l.objoid = %(oid)s
ORDER BY 1;

-- statement: indexes
SELECT quote_ident(ic.relname), pg_get_indexdef(i.indexrelid)
FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
WHERE i.indrelid = %(oid)s AND NOT i.indisunique AND i.indisvalid ORDER BY 1;

-- statement: identities
-- Columns that are an identity, with their sequences and how those count.
SELECT quote_ident(a.attname), CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, quote_ident(s.relname),
       format('INCREMENT BY %%s MINVALUE %%s MAXVALUE %%s START WITH %%s CACHE %%s%%s', q.seqincrement, q.seqmin, q.seqmax,
              q.seqstart, q.seqcache, CASE WHEN q.seqcycle THEN ' CYCLE' ELSE '' END)
FROM pg_attribute a
JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
JOIN pg_sequence q ON q.seqrelid = d.objid
JOIN pg_class s ON s.oid = q.seqrelid
WHERE a.attrelid = %(oid)s AND a.attidentity <> '' ORDER BY a.attnum;

-- statement: serials
-- Sequences that a column owns without being its identity.
SELECT s.oid::regclass::text, quote_ident(a.attname)
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refobjid = %(oid)s AND d.deptype = 'a' ORDER BY 1;

-- statement: checks
SELECT quote_ident(k.conname), pg_get_constraintdef(k.oid)
FROM pg_constraint k WHERE k.conrelid = %(oid)s AND k.contype = 'c' AND NOT k.connoinherit ORDER BY 1;

-- statement: foreign_keys
-- Those of the table to others. On attaching, the old table's own become parts of them without a look at its rows.
SELECT quote_ident(k.conname), pg_get_constraintdef(k.oid)
FROM pg_constraint k WHERE k.conrelid = %(oid)s AND k.contype = 'f' AND k.conparentid = 0 ORDER BY 1;

-- statement: grants
-- What others may do with the table (kind r), its columns, and the sequences of its identities (kind S, with their name).
SELECT c.relkind::text, quote_ident(c.relname), x.privilege_type,
       CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END, x.is_grantable, x.attribute
FROM pg_class c
CROSS JOIN LATERAL (
    SELECT g.privilege_type, g.grantee, g.is_grantable, NULL::text AS attribute FROM aclexplode(c.relacl) AS g
    UNION
    SELECT g.privilege_type, g.grantee, g.is_grantable, quote_ident(a.attname)
    FROM pg_attribute a CROSS JOIN LATERAL aclexplode(a.attacl) AS g WHERE a.attrelid = c.oid AND c.relkind = 'r'
) AS x
WHERE x.grantee <> c.relowner
  AND (c.oid = %(oid)s OR c.oid IN (SELECT d.objid FROM pg_depend d
                                    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                                      AND d.refobjid = %(oid)s AND d.deptype = 'i' AND c.relkind = 'S'))
ORDER BY 1, 2, 4, 3, 6;

-- statement: granted_by_default
-- Who gets rights on a new table in this schema from the default privileges of whoever makes it.
SELECT DISTINCT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END
FROM pg_default_acl d CROSS JOIN LATERAL aclexplode(d.defaclacl) AS x JOIN pg_class c ON c.oid = %(oid)s
WHERE d.defaclobjtype = 'r' AND d.defaclnamespace IN (0, c.relnamespace) AND x.grantee NOT IN (d.defaclrole, c.relowner)
ORDER BY 1;

-- statement: row_security
SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = %(oid)s;

-- statement: policies
SELECT quote_ident(p.polname), CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
       CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
       (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END, ', ' ORDER BY role)
        FROM unnest(p.polroles) AS role),
       pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
FROM pg_policy p WHERE p.polrelid = %(oid)s ORDER BY p.polname;

-- statement: views
-- Views follow the table that they were made of, whatever its name becomes.
SELECT DISTINCT v.oid::regclass::text, pg_get_viewdef(v.oid),
       (SELECT string_agg(format('%%s=%%L', option_name, option_value), ', ') FROM pg_options_to_table(v.reloptions)),
       CASE WHEN v.relowner <> c.relowner THEN quote_ident(pg_get_userbyid(v.relowner)) END
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
JOIN pg_class c ON c.oid = d.refobjid
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s ORDER BY 1;
