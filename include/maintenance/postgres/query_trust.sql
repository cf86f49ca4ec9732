-- Statements of query_trust.py, each under its name.

-- statement: not_trusted
-- Functions, types, relations, operators and casts of roles that are not trusted, and all that rests on them: a view of
-- their function, a table with a column of their domain. Triggers and foreign keys are nothing to the planner.
WITH RECURSIVE trusted AS (
    SELECT datdba AS role FROM pg_database WHERE datname = current_database()
    UNION SELECT oid FROM pg_roles WHERE rolsuper OR rolname IN (current_user, 'pg_database_owner')
    UNION SELECT c.relowner FROM unnest(%(pruned)s::text[]) AS pruned (name) JOIN pg_class c ON c.oid = to_regclass(pruned.name)
), stranger AS (
    SELECT r.oid, r.rolname FROM pg_roles r WHERE NOT EXISTS (SELECT FROM trusted WHERE pg_has_role(r.oid, trusted.role, 'MEMBER'))
), found (class, oid, owner) AS (
    (SELECT 'pg_proc'::regclass::oid, p.oid, s.rolname FROM pg_proc p JOIN stranger s ON s.oid = p.proowner
     UNION ALL SELECT 'pg_operator'::regclass, o.oid, s.rolname FROM pg_operator o JOIN stranger s ON s.oid = o.oprowner
     UNION ALL SELECT 'pg_type'::regclass, t.oid, s.rolname FROM pg_type t JOIN stranger s ON s.oid = t.typowner
     UNION ALL SELECT 'pg_class'::regclass, c.oid, s.rolname FROM pg_class c JOIN stranger s ON s.oid = c.relowner
               WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f'))
    UNION
    SELECT resting.class, resting.oid, found.owner
    FROM found CROSS JOIN LATERAL (
        SELECT coalesce(whole.class, d.classid), coalesce(whole.oid, d.objid)
        FROM pg_depend d
        LEFT JOIN LATERAL (
            SELECT 'pg_class'::regclass::oid, ev_class FROM pg_rewrite WHERE d.classid = 'pg_rewrite'::regclass AND oid = d.objid
            UNION ALL SELECT 'pg_class'::regclass, adrelid FROM pg_attrdef WHERE d.classid = 'pg_attrdef'::regclass AND oid = d.objid
            UNION ALL SELECT 'pg_class'::regclass, polrelid FROM pg_policy WHERE d.classid = 'pg_policy'::regclass AND oid = d.objid
            UNION ALL SELECT 'pg_class'::regclass, indrelid FROM pg_index WHERE d.classid = 'pg_class'::regclass AND indexrelid = d.objid
            UNION ALL SELECT 'pg_class'::regclass, stxrelid FROM pg_statistic_ext
                      WHERE d.classid = 'pg_statistic_ext'::regclass AND oid = d.objid
            UNION ALL SELECT CASE WHEN conrelid = 0 THEN 'pg_type' ELSE 'pg_class' END::regclass, greatest(conrelid, contypid)
                      FROM pg_constraint WHERE d.classid = 'pg_constraint'::regclass AND oid = d.objid AND contype = 'c'
        ) AS whole (class, oid) ON true
        WHERE d.refclassid = found.class AND d.refobjid = found.oid
        UNION ALL SELECT 'pg_class'::regclass, inhparent FROM pg_inherits
                  WHERE found.class = 'pg_class'::regclass AND inhrelid = found.oid
    ) AS resting (class, oid)
)
SELECT 'operator' AS kind, o.oprname::text AS name, f.owner::text
FROM found f JOIN pg_operator o ON f.class = 'pg_operator'::regclass AND o.oid = f.oid
UNION ALL SELECT 'cast', format_type(k.castsource, NULL) || ' AS ' || format_type(k.casttarget, NULL), f.owner
FROM found f JOIN pg_cast k ON f.class = 'pg_cast'::regclass AND k.oid = f.oid AND k.castfunc <> 0
UNION ALL SELECT 'function', p.proname, f.owner FROM found f JOIN pg_proc p ON f.class = 'pg_proc'::regclass AND p.oid = f.oid
UNION ALL SELECT 'type', t.typname, f.owner  -- and not that of a row: it bears the name of its table
FROM found f JOIN pg_type t ON f.class = 'pg_type'::regclass AND t.oid = f.oid
LEFT JOIN pg_class c ON c.oid = t.typrelid WHERE coalesce(c.relkind, 'c') = 'c'
UNION ALL SELECT CASE WHEN c.relkind IN ('v', 'm') THEN 'view' ELSE 'table' END, c.relname, f.owner
FROM found f JOIN pg_class c ON f.class = 'pg_class'::regclass AND c.oid = f.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY 1 DESC, 2, 3;
