-- What one relation of the source contract is: kind, definition, the role that asks and its rights, the columns' types,
-- and the statements that make its indexes.
-- The catalogue can be read whatever rights a role has. A column of a domain has the domain's base type.
SELECT
    CASE relation.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
        ELSE 'table' END,
    CASE WHEN relation.relkind IN ('v', 'm') THEN pg_get_viewdef(relation.oid) ELSE '' END,
    current_user::text,
    has_schema_privilege(namespace.oid, 'USAGE'),
    has_table_privilege(relation.oid, 'SELECT'),
    coalesce((
        SELECT json_object_agg(attribute.attname, format_type(coalesce(nullif(type.typbasetype, 0), type.oid), NULL)
                                ORDER BY attribute.attnum)
        FROM pg_attribute AS attribute
        JOIN pg_type AS type ON type.oid = attribute.atttypid
        WHERE attribute.attrelid = relation.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
    ), '{}'::json),
    coalesce((
        SELECT json_agg(pg_get_indexdef(indexrelid) ORDER BY indexrelid) FROM pg_index WHERE indrelid = relation.oid
    ), '[]'::json)
FROM pg_class AS relation
JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
WHERE namespace.nspname = %(schema)s AND relation.relname = %(view)s AND relation.relkind IN ('v', 'm', 'r', 'p', 'f')
