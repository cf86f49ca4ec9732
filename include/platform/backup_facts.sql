-- What is recorded of a database when a backup of it is taken, and read again from the restored one.

-- statement: database
-- Which properties pg_database has differs between versions: the whole row is taken. Beside them stand those of the
-- server that its restoration needs.
SELECT to_jsonb(d) - '{oid,datdba,datacl,datfrozenxid,datminmxid}'::text[]
       || jsonb_build_object('encoding_name', pg_encoding_to_char(d.encoding),
                             'bytes', pg_database_size(d.oid),
                             'superusers', (SELECT jsonb_agg(rolname ORDER BY rolname) FROM pg_roles WHERE rolsuper),
                             'snapshot_at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
FROM pg_database d WHERE datname = current_database();

-- statement: roles
-- The role that the cluster was made with comes first.
SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY oid <> 10, rolname;

-- statement: tables
-- Every table whose rows a backup holds, the largest first, with its columns that hold times; and that of the large
-- objects where there are some.
SELECT format('%I.%I', n.nspname, c.relname) AS name, n.nspname, c.relname, c.relpersistence = 'u' AS unlogged,
       coalesce(array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE a.attname IS NOT NULL), '{}') AS time_columns
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND (n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
       OR c.oid = 'pg_catalog.pg_largeobject_metadata'::regclass AND pg_relation_size(c.oid) > 0)
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
GROUP BY c.oid, n.nspname, c.relname, c.relpersistence, c.relpages
ORDER BY c.relpages DESC, n.nspname, c.relname;

-- statement: statistics_reset
-- Whether the server counts, and when it began to.
SELECT current_setting('track_counts')::boolean, stats_reset::text
FROM pg_stat_database WHERE datname = current_database();

-- statement: statistics
SELECT format('%I.%I', schemaname, relname), n_tup_ins, n_tup_del, pg_relation_filenode(relid)::bigint
FROM pg_stat_all_tables
WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema' OR relid = 'pg_catalog.pg_largeobject_metadata'::regclass;

-- statement: catalog
-- Every schema object as kind, name and definition. Written so that the same schema gives the same text after a dump
-- and restore: columns are numbered anew, privileges are spelled out and sorted, members of extensions are left out.
WITH skipped AS (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
), spaces AS (
    SELECT oid, nspname, nspowner, nspacl FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM skipped WHERE classid = 'pg_namespace'::regclass AND objid = pg_namespace.oid)
), relations AS (
    SELECT c.*, format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace
    WHERE c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
      AND NOT EXISTS (SELECT FROM skipped WHERE classid = 'pg_class'::regclass AND objid = c.oid)
), routines AS (
    SELECT p.*, format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS name
    FROM pg_proc p JOIN spaces n ON n.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM skipped WHERE classid = 'pg_proc'::regclass AND objid = p.oid)
), types AS (
    SELECT t.*, format('%I.%I', n.nspname, t.typname) AS name
    FROM pg_type t JOIN spaces n ON n.oid = t.typnamespace
    WHERE t.typtype IN ('d', 'e', 'r')
      AND NOT EXISTS (SELECT FROM skipped WHERE classid = 'pg_type'::regclass AND objid = t.oid)
), privileges (kind, name, acl) AS (
    SELECT 'schema', quote_ident(nspname), coalesce(nspacl, acldefault('n', nspowner)) FROM spaces
    UNION ALL
    SELECT 'relation', name, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
    FROM relations WHERE relkind <> 'c'
    UNION ALL
    SELECT 'column', r.name || '.' || quote_ident(a.attname), a.attacl
    FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE a.attacl IS NOT NULL
    UNION ALL
    SELECT 'function', name, coalesce(proacl, acldefault('f', proowner)) FROM routines
    UNION ALL
    SELECT 'type', name, coalesce(typacl, acldefault('T', typowner)) FROM types
    UNION ALL
    SELECT 'default', format('of %I in %s for %s', pg_get_userbyid(defaclrole),
                             coalesce(quote_ident(nspname), 'every schema'), defaclobjtype), defaclacl
    FROM pg_default_acl LEFT JOIN pg_namespace n ON n.oid = defaclnamespace
)
SELECT 'schema', quote_ident(nspname), 'owner ' || pg_get_userbyid(nspowner) FROM spaces
UNION ALL
-- Not its version: a restoration installs the one that is there.
SELECT 'extension', quote_ident(extname), 'in ' || extnamespace::regnamespace::text FROM pg_extension
UNION ALL
SELECT CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence'
                    WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'composite type' END,
       name,
       concat_ws(' | ', 'owner ' || pg_get_userbyid(relowner),
                 CASE WHEN relpersistence = 'u' THEN 'unlogged' END,
                 'options ' || nullif(array_to_string(reloptions, ','), ''),
                 CASE WHEN relrowsecurity THEN 'row security' END, CASE WHEN relforcerowsecurity THEN 'forced' END,
                 CASE WHEN relkind = 'p' THEN pg_get_partkeydef(oid) END,
                 CASE WHEN relispartition THEN 'partition of ' || (SELECT inhparent::regclass::text FROM pg_inherits
                                                                   WHERE inhrelid = relations.oid LIMIT 1) END,
                 pg_get_expr(relpartbound, oid),
                 CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END,
                 CASE WHEN relkind = 'S' THEN (SELECT concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmin, seqmax,
                                                                seqcache, seqcycle) FROM pg_sequence
                                               WHERE seqrelid = relations.oid) END)
FROM relations
UNION ALL
SELECT 'column', r.name || '.' || quote_ident(a.attname),
       concat_ws(' ', row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod),
                 CASE WHEN a.attnotnull THEN 'not null' END, 'identity ' || nullif(a.attidentity::text, ''),
                 'generated ' || nullif(a.attgenerated::text, ''), 'default ' || pg_get_expr(f.adbin, f.adrelid),
                 CASE WHEN a.attcollation <> t.typcollation THEN 'collate ' || a.attcollation::regcollation::text END)
FROM relations r
JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef f ON f.adrelid = r.oid AND f.adnum = a.attnum
WHERE r.relkind <> 'S'
UNION ALL
SELECT 'constraint', r.name || '.' || quote_ident(k.conname), pg_get_constraintdef(k.oid)
FROM relations r JOIN pg_constraint k ON k.conrelid = r.oid WHERE k.contype <> 't'
UNION ALL
SELECT 'index', x.indexrelid::regclass::text,
       pg_get_indexdef(x.indexrelid) || CASE WHEN x.indisvalid THEN '' ELSE ' (invalid)' END
       || CASE WHEN x.indisreplident THEN ' (replica identity)' ELSE '' END
FROM relations r JOIN pg_index x ON x.indrelid = r.oid
WHERE (x.indisvalid OR r.relkind = 'p') AND x.indisready  -- pg_dump leaves the others out
UNION ALL
SELECT 'trigger', r.name || '.' || quote_ident(g.tgname), pg_get_triggerdef(g.oid) || ' ' || g.tgenabled::text
FROM relations r JOIN pg_trigger g ON g.tgrelid = r.oid WHERE NOT g.tgisinternal
UNION ALL
SELECT 'rule', r.name || '.' || quote_ident(u.rulename), pg_get_ruledef(u.oid) || ' ' || u.ev_enabled::text
FROM relations r JOIN pg_rewrite u ON u.ev_class = r.oid WHERE u.rulename <> '_RETURN'
UNION ALL
SELECT 'policy', r.name || '.' || quote_ident(p.polname),
       concat_ws(' ', p.polcmd::text, p.polpermissive, (SELECT string_agg(pg_get_userbyid(role), ',' ORDER BY pg_get_userbyid(role))
                                                   FROM unnest(p.polroles) AS role),
                 pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
FROM relations r JOIN pg_policy p ON p.polrelid = r.oid
UNION ALL
SELECT 'statistics', r.name || '.' || quote_ident(e.stxname), pg_get_statisticsobjdef(e.oid)
FROM relations r JOIN pg_statistic_ext e ON e.stxrelid = r.oid
UNION ALL
SELECT 'function', name, 'owner ' || pg_get_userbyid(proowner) || ' | '
       || CASE WHEN prokind = 'a' THEN (SELECT concat_ws(' ', aggtransfn, aggfinalfn, aggtranstype::regtype, agginitval)
                                        FROM pg_aggregate WHERE aggfnoid = routines.oid)
               ELSE pg_get_functiondef(oid) END
FROM routines
UNION ALL
SELECT CASE typtype WHEN 'd' THEN 'domain' WHEN 'e' THEN 'enumeration' ELSE 'range' END, name,
       concat_ws(' | ', 'owner ' || pg_get_userbyid(typowner),
                 CASE WHEN typtype = 'd' THEN format_type(typbasetype, typtypmod) || CASE WHEN typnotnull THEN ' not null' ELSE '' END END,
                 typdefault,
                 (SELECT string_agg(pg_get_constraintdef(k.oid), ', ' ORDER BY k.conname) FROM pg_constraint k
                  WHERE k.contypid = types.oid AND k.contype = 'c'),
                 (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) FROM pg_enum
                  WHERE enumtypid = types.oid),
                 (SELECT rngsubtype::regtype::text FROM pg_range WHERE rngtypid = types.oid))
FROM types
UNION ALL
SELECT 'event trigger', quote_ident(evtname), concat_ws(' ', evtevent, evtfoid::regproc, evtenabled::text, evttags::text)
FROM pg_event_trigger
WHERE NOT EXISTS (SELECT FROM skipped WHERE classid = 'pg_event_trigger'::regclass AND objid = pg_event_trigger.oid)
UNION ALL
SELECT 'comment', o.type || ' ' || o.identity, md5(d.description)
FROM pg_description d CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) AS o
WHERE d.objoid >= 16384 AND o.identity IS NOT NULL AND o.type <> 'extension' AND coalesce(o.schema, '') !~ '^pg_'
  AND NOT EXISTS (SELECT FROM skipped WHERE classid = d.classoid AND objid = d.objoid)
UNION ALL
SELECT 'publication', quote_ident(p.pubname),
       concat_ws(' | ', 'owner ' || pg_get_userbyid(p.pubowner), to_jsonb(p) - '{oid,pubname,pubowner}'::text[],
                 (SELECT string_agg((to_jsonb(t) - 'pubname')::text, ' ' ORDER BY t.schemaname, t.tablename)
                  FROM pg_publication_tables t WHERE t.pubname = p.pubname))
FROM pg_publication p
UNION ALL
-- The options may hold addresses: only whether they are the same is recorded.
SELECT 'foreign server', quote_ident(v.srvname),
       concat_ws(' | ', 'owner ' || pg_get_userbyid(v.srvowner), 'of ' || w.fdwname, v.srvtype, v.srvversion,
                 (SELECT md5(string_agg(o, ',' ORDER BY o)) FROM unnest(v.srvoptions) AS o))
FROM pg_foreign_server v JOIN pg_foreign_data_wrapper w ON w.oid = v.srvfdw
WHERE NOT EXISTS (SELECT FROM skipped WHERE classid = 'pg_foreign_server'::regclass AND objid = v.oid)
UNION ALL
SELECT 'collation', format('%I.%I', n.nspname, k.collname),
       concat_ws(' | ', 'owner ' || pg_get_userbyid(k.collowner), k.collprovider::text,
                 CASE WHEN k.collisdeterministic THEN 'deterministic' END, k.collcollate, k.collctype)
FROM pg_collation k JOIN spaces n ON n.oid = k.collnamespace
WHERE NOT EXISTS (SELECT FROM skipped WHERE classid = 'pg_collation'::regclass AND objid = k.oid)
UNION ALL
SELECT 'cast', format('%s as %s', k.castsource::regtype, k.casttarget::regtype),
       concat_ws(' ', k.castcontext::text, k.castmethod::text, nullif(k.castfunc, 0)::regprocedure)
FROM pg_cast k
WHERE k.oid >= 16384 AND NOT EXISTS (SELECT FROM skipped WHERE classid = 'pg_cast'::regclass AND objid = k.oid)
UNION ALL
SELECT 'operator', format('%I.%s (%s, %s)', n.nspname, o.oprname, nullif(o.oprleft, 0)::regtype, nullif(o.oprright, 0)::regtype),
       concat_ws(' | ', 'owner ' || pg_get_userbyid(o.oprowner), o.oprcode::regprocedure, nullif(o.oprrest, 0)::regproc,
                 nullif(o.oprjoin, 0)::regproc, CASE WHEN o.oprcanhash THEN 'hashes' END, CASE WHEN o.oprcanmerge THEN 'merges' END)
FROM pg_operator o JOIN spaces n ON n.oid = o.oprnamespace
WHERE o.oprcode <> 0 AND NOT EXISTS (SELECT FROM skipped WHERE classid = 'pg_operator'::regclass AND objid = o.oid)
UNION ALL
SELECT 'operator class', format('%I.%I using %I', n.nspname, o.opcname, m.amname),
       concat_ws(' | ', 'owner ' || pg_get_userbyid(o.opcowner), o.opcintype::regtype, CASE WHEN o.opcdefault THEN 'default' END)
FROM pg_opclass o JOIN spaces n ON n.oid = o.opcnamespace JOIN pg_am m ON m.oid = o.opcmethod
WHERE NOT EXISTS (SELECT FROM skipped WHERE classid = 'pg_opclass'::regclass AND objid = o.oid)
UNION ALL
-- Values may be secret. Those that are left out are not restored either (LEFT_OUT in backup_settings.py).
SELECT 'database setting', split_part(c, '=', 1) || coalesce(' of ' || quote_ident(pg_get_userbyid(nullif(s.setrole, 0))), ''), md5(c)
FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS c
WHERE s.setdatabase = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
  AND split_part(c, '=', 1) NOT IN ('default_tablespace', 'temp_tablespaces', 'session_preload_libraries',
                                    'local_preload_libraries')
UNION ALL
SELECT CASE kind WHEN 'default' THEN 'default privileges' ELSE 'privileges' END,
       CASE kind WHEN 'default' THEN name ELSE kind || ' ' || name END,
       (SELECT coalesce(string_agg(concat_ws(' ', CASE grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(grantee) END,
                                             privilege_type, CASE WHEN is_grantable THEN 'grantable' END),
                                   ', ' ORDER BY CASE grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(grantee) END,
                                   privilege_type, is_grantable), '')
        FROM aclexplode(acl))
FROM privileges
ORDER BY 1, 2, 3;
