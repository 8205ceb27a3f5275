-- Everything of one schema that a migration could have made, one row per object: kind, table, name, facts.
-- A fact stands for what differs from PostgreSQL's default, so that the usual is short and the text is the same on
-- every version. Facts whose name begins with _ are of this database alone, and are not compared.
-- pg_get_expr() with a table's oid waits for whoever holds that table exclusively; 0 does where no column is named.
WITH schema AS MATERIALIZED (
    SELECT oid, nspname, nspowner, nspacl FROM pg_namespace WHERE nspname = current_schema()
), owner AS MATERIALIZED (
    -- Whose the tables are: the role that has most of them. Objects of others say so.
    SELECT oid, quote_ident(rolname) AS owner_name
    FROM pg_roles
    WHERE oid = coalesce((SELECT relowner FROM pg_class JOIN schema ON relnamespace = schema.oid
                          WHERE relkind IN ('r', 'p') GROUP BY relowner ORDER BY count(*) DESC, relowner LIMIT 1),
                         current_user::regrole)
), member AS MATERIALIZED (
    SELECT classid, objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
), relation AS MATERIALIZED (
    SELECT class.oid, class.relname, quote_ident(class.relname) AS name, class.relkind, class.relpersistence,
        class.relreplident, class.relrowsecurity, class.relforcerowsecurity, class.relispartition, class.relpartbound,
        class.relowner, class.relacl, class.reloptions, class.reltablespace, class.relam, class.reltoastrelid,
        class.reloftype, parent.oid AS parent, quote_ident(parent.relname) AS parent_name, inhdetachpending
    FROM pg_class AS class JOIN schema ON class.relnamespace = schema.oid
    LEFT JOIN pg_inherits ON inhrelid = class.oid AND class.relispartition
    LEFT JOIN pg_class AS parent ON parent.oid = inhparent
    WHERE class.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_class'::regclass AND objid = class.oid)
), columns AS MATERIALIZED (
    SELECT relation.oid AS relation, relation.name AS table_name, relation.parent, attname, attacl, relowner,
        json_build_object(
            'type', format_type(atttypid, atttypmod),
            'collation', CASE WHEN attcollation <> typcollation THEN attcollation::regcollation::text END,
            'not null', CASE WHEN NOT attnotnull THEN NULL WHEN not_null.conname IS NULL THEN 'yes'
                -- PostgreSQL 18 lists them among the constraints: NOT VALID, NO INHERIT, and by their names, which
                -- stay when a table or a column is renamed.
                ELSE concat_ws(', ', 'yes', CASE WHEN NOT not_null.convalidated THEN 'not valid' END,
                    CASE WHEN not_null.connoinherit THEN 'no inherit' END,
                    CASE WHEN not_null.conname !~ '_not_null\d*$'
                         THEN 'named ' || quote_ident(not_null.conname) END)
                END,
            'default', CASE WHEN attgenerated = '' THEN pg_get_expr(adbin, 0) END,
            'generated', CASE WHEN attgenerated <> '' THEN pg_get_expr(adbin, adrelid) END,
            'virtual', CASE WHEN attgenerated = 'v' THEN 'yes' END,
            'identity', CASE attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END,
            'storage', CASE WHEN attstorage <> typstorage THEN
                CASE attstorage WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external' WHEN 'm' THEN 'main'
                                WHEN 'x' THEN 'extended' END END,
            'compression', CASE attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END,
            'statistics', nullif(attstattarget, -1)::text,
            'options', array_to_string(attoptions, ', '),
            '_storage', CASE typstorage WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external' WHEN 'm' THEN 'main'
                                        ELSE 'extended' END
        ) AS facts
    FROM relation
    JOIN pg_attribute ON attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
    JOIN pg_type ON pg_type.oid = atttypid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    LEFT JOIN pg_constraint AS not_null
        ON not_null.conrelid = attrelid AND not_null.contype = 'n' AND not_null.conkey[1] = attnum
    WHERE relation.relkind IN ('r', 'p', 'f')
), foreign_key_trigger AS MATERIALIZED (
    SELECT tgrelid, tgname, tgenabled, tgparentid, conname, tgfoid
    FROM pg_trigger JOIN relation ON relation.oid = tgrelid JOIN pg_constraint ON pg_constraint.oid = tgconstraint
    WHERE tgisinternal
), granted (kind, name, acl, usual, owner) AS (
    SELECT CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, name, relacl,
        acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner), relowner
    FROM relation WHERE relacl IS NOT NULL
    UNION ALL
    SELECT 'column', table_name || '.' || quote_ident(attname), attacl, NULL, relowner
    FROM columns WHERE attacl IS NOT NULL
    UNION ALL
    SELECT CASE prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
        quote_ident(proname) || '(' || pg_get_function_identity_arguments(pg_proc.oid) || ')', proacl,
        acldefault('f', proowner), proowner
    FROM pg_proc JOIN schema ON pronamespace = schema.oid
    WHERE proacl IS NOT NULL
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid)
    UNION ALL
    SELECT 'type', quote_ident(typname), typacl, acldefault('T', typowner), typowner
    FROM pg_type JOIN schema ON typnamespace = schema.oid WHERE typacl IS NOT NULL
    UNION ALL
    SELECT 'schema', quote_ident(nspname), nspacl, acldefault('n', nspowner), nspowner
    FROM schema WHERE nspacl IS NOT NULL
    UNION ALL
    SELECT 'database', 'this', datacl, acldefault('d', datdba), datdba
    FROM pg_database WHERE datname = current_database() AND datacl IS NOT NULL
    UNION ALL
    SELECT 'default', CASE defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions'
                                         WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' ELSE 'large objects' END
        || ' of ' || quote_ident(pg_get_userbyid(defaclrole))
        || coalesce(' in schema ' || quote_ident(pg_namespace.nspname), ''), defaclacl,
        CASE defaclnamespace WHEN 0 THEN acldefault(CASE defaclobjtype WHEN 'S' THEN 's' ELSE defaclobjtype END,
                                                    defaclrole) END, defaclrole
    FROM pg_default_acl LEFT JOIN pg_namespace ON pg_namespace.oid = defaclnamespace
), privilege AS (
    -- What each role has beyond, or lacks of, the default. Who may connect is not the schema's affair.
    SELECT kind, name, grantee, string_agg(privilege, ', ' ORDER BY privilege) FILTER (WHERE has) AS extra,
        string_agg(privilege, ', ' ORDER BY privilege) FILTER (WHERE NOT has) AS lacks
    FROM (
        SELECT kind, name, has,
            CASE item.grantee WHEN owner THEN 'the owner' WHEN 0 THEN 'PUBLIC'
                 ELSE quote_ident(pg_get_userbyid(item.grantee)) END AS grantee,
            privilege_type || CASE WHEN is_grantable THEN ' with grant option' ELSE '' END AS privilege
        FROM granted CROSS JOIN LATERAL (
            (SELECT true AS has, grantee, privilege_type, is_grantable FROM aclexplode(acl)
             EXCEPT SELECT true, grantee, privilege_type, is_grantable FROM aclexplode(usual))
            UNION ALL
            (SELECT false, grantee, privilege_type, is_grantable FROM aclexplode(usual)
             EXCEPT SELECT false, grantee, privilege_type, is_grantable FROM aclexplode(acl))
        ) AS item
        WHERE NOT (kind = 'database' AND privilege_type IN ('CONNECT', 'TEMPORARY'))
          -- What a monitor needs to see how full a sequence is.
          AND NOT (kind = 'sequence' AND privilege_type = 'SELECT' AND has AND item.grantee <> 0
                   AND pg_has_role(item.grantee, 'pg_monitor', 'USAGE'))
    ) AS item
    GROUP BY kind, name, grantee
), other (class, oid) AS (
    SELECT 'pg_operator'::regclass, pg_operator.oid FROM pg_operator JOIN schema ON oprnamespace = schema.oid
    UNION ALL SELECT 'pg_opclass'::regclass, pg_opclass.oid FROM pg_opclass JOIN schema ON opcnamespace = schema.oid
    UNION ALL SELECT 'pg_opfamily'::regclass, pg_opfamily.oid FROM pg_opfamily JOIN schema ON opfnamespace = schema.oid
    UNION ALL SELECT 'pg_collation'::regclass, pg_collation.oid
        FROM pg_collation JOIN schema ON collnamespace = schema.oid
    UNION ALL SELECT 'pg_conversion'::regclass, pg_conversion.oid
        FROM pg_conversion JOIN schema ON connamespace = schema.oid
    UNION ALL SELECT 'pg_ts_config'::regclass, pg_ts_config.oid
        FROM pg_ts_config JOIN schema ON cfgnamespace = schema.oid
    UNION ALL SELECT 'pg_ts_dict'::regclass, pg_ts_dict.oid FROM pg_ts_dict JOIN schema ON dictnamespace = schema.oid
    UNION ALL SELECT 'pg_cast'::regclass, oid FROM pg_cast WHERE oid >= 16384
    UNION ALL SELECT 'pg_language'::regclass, oid FROM pg_language WHERE oid >= 16384
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid FROM pg_foreign_server
    UNION ALL SELECT 'pg_event_trigger'::regclass, oid FROM pg_event_trigger
    UNION ALL SELECT 'pg_publication'::regclass, oid FROM pg_publication
)
SELECT 'owner' AS kind, '' AS table_name, '' AS name, json_build_object('_name', owner_name,
    '_database', quote_ident(current_database())) AS facts FROM owner

UNION ALL
SELECT CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'matview' WHEN 'f' THEN 'foreign-table' ELSE 'table' END,
    '', name, json_build_object(
        'partition of', parent_name,
        'bound', CASE WHEN relispartition THEN pg_get_expr(relpartbound, 0) END,
        'detach pending', CASE WHEN inhdetachpending THEN 'yes' END,
        'partition key', pg_get_partkeydef(relation.oid),
        'definition', CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(relation.oid) END,
        'inherits', (SELECT string_agg(inhparent::regclass::text, ', ' ORDER BY inhseqno)
                     FROM pg_inherits WHERE inhrelid = relation.oid AND NOT relispartition),
        'of type', CASE WHEN reloftype <> 0 THEN reloftype::regtype::text END,
        'persistence', CASE relpersistence WHEN 'u' THEN 'unlogged' END,
        'access method', (SELECT amname FROM pg_am WHERE pg_am.oid = relam AND amname <> 'heap'),
        'tablespace', (SELECT spcname FROM pg_tablespace WHERE pg_tablespace.oid = reltablespace),
        'replica identity', CASE WHEN relkind IN ('r', 'p', 'm') THEN
            CASE relreplident WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full' WHEN 'i' THEN 'index' END END,
        'row security', CASE WHEN relforcerowsecurity AND relrowsecurity THEN 'forced'
                             WHEN relforcerowsecurity THEN 'off, would be forced' WHEN relrowsecurity THEN 'on' END,
        'options', nullif(concat_ws(', ', array_to_string(reloptions, ', '),
            (SELECT 'toast.' || array_to_string(toast.reloptions, ', toast.') FROM pg_class AS toast
             WHERE toast.oid = reltoastrelid AND toast.reloptions IS NOT NULL)), ''),
        'owner', CASE WHEN relowner <> owner.oid THEN quote_ident(pg_get_userbyid(relowner)) END
    )
FROM relation, owner WHERE relkind IN ('r', 'p', 'v', 'm', 'f')

UNION ALL  -- a partition's columns, where they are not as its parent's
SELECT 'column', columns.table_name, quote_ident(columns.attname), columns.facts
FROM columns LEFT JOIN columns AS above ON above.relation = columns.parent AND above.attname = columns.attname
WHERE above.facts IS NULL OR columns.facts::text <> above.facts::text

UNION ALL
SELECT 'constraint', relation.name, quote_ident(conname), json_build_object(
    'partition of', (SELECT quote_ident(above.conname) FROM pg_constraint AS above
                     WHERE above.oid = pg_constraint.conparentid),
    'definition', CASE WHEN conparentid = 0 THEN
        regexp_replace(pg_get_constraintdef(pg_constraint.oid), '( NOT VALID| NOT ENFORCED)+$', '') END,
    'validated', CASE WHEN NOT convalidated THEN 'no' END,
    'enforced', CASE WHEN to_jsonb(pg_constraint) ->> 'conenforced' = 'false' THEN 'no' END)
FROM pg_constraint JOIN relation ON relation.oid = conrelid
WHERE contype IN ('p', 'u', 'f', 'c', 'x')
  AND NOT (contype = 'c' AND relispartition AND coninhcount > 0 AND convalidated)

UNION ALL
SELECT 'index', relation.name, quote_ident(class.relname), json_build_object(
    'partition of', quote_ident(above.relname),
    'constraint', CASE WHEN of_constraint.oid IS NOT NULL THEN 'yes' END,
    'unique', CASE WHEN indisunique AND above.oid IS NULL AND of_constraint.oid IS NULL THEN 'yes' END,
    'definition', CASE WHEN above.oid IS NULL AND of_constraint.oid IS NULL THEN
        regexp_replace(regexp_replace(pg_get_indexdef(indexrelid), '^.*? USING ', ''), ' WITH \([^)]*\)', '') END,
    'valid', CASE WHEN NOT indisvalid THEN 'no' END,
    'ready', CASE WHEN NOT (indisready AND indislive) THEN 'no' END,
    'clustered', CASE WHEN indisclustered THEN 'yes' END,
    'replica identity', CASE WHEN indisreplident THEN 'yes' END,
    'options', array_to_string(class.reloptions, ', '),
    'tablespace', (SELECT spcname FROM pg_tablespace WHERE pg_tablespace.oid = class.reltablespace))
FROM pg_index JOIN relation ON relation.oid = indrelid JOIN pg_class AS class ON class.oid = indexrelid
LEFT JOIN pg_inherits ON inhrelid = indexrelid LEFT JOIN pg_class AS above ON above.oid = inhparent
LEFT JOIN pg_constraint AS of_constraint
    ON of_constraint.conindid = indexrelid AND of_constraint.conrelid = indrelid
    AND of_constraint.contype IN ('p', 'u', 'x')

UNION ALL
SELECT 'trigger', relation.name, quote_ident(tgname), json_build_object(
    'definition', regexp_replace(pg_get_triggerdef(pg_trigger.oid, true), '^CREATE (CONSTRAINT )?TRIGGER \S+ ', '\1'),
    'enabled', CASE tgenabled WHEN 'D' THEN 'no' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END,
    'partition of', (SELECT quote_ident(tgname) FROM pg_trigger AS above WHERE above.oid = pg_trigger.tgparentid))
FROM pg_trigger JOIN relation ON relation.oid = tgrelid
WHERE NOT tgisinternal
  AND NOT (tgparentid <> 0 AND tgenabled = (SELECT tgenabled FROM pg_trigger AS above
                                            WHERE above.oid = pg_trigger.tgparentid))

UNION ALL  -- the internal triggers that keep foreign keys and deferrable unique constraints
SELECT 'key-trigger', relation.name, quote_ident(conname) || ' ' || proname, json_build_object(
    'enabled', CASE tgenabled WHEN 'D' THEN 'no' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END, '_name', tgname)
FROM foreign_key_trigger JOIN relation ON relation.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE tgparentid = 0 OR tgenabled <> 'O'

UNION ALL
SELECT CASE prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END, '',
    quote_ident(proname) || '(' || pg_get_function_identity_arguments(pg_proc.oid) || ')', json_build_object(
    'definition', CASE WHEN prokind <> 'a' THEN
        regexp_replace(pg_get_functiondef(pg_proc.oid), '^(CREATE OR REPLACE (FUNCTION|PROCEDURE) )[^.(]+\.', '\1') END,
    'owner', CASE WHEN proowner <> owner.oid THEN quote_ident(pg_get_userbyid(proowner)) END)
FROM pg_proc JOIN schema ON pronamespace = schema.oid, owner
WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid)

UNION ALL
SELECT 'sequence', '', relation.name, json_build_object(
    'owned by', (SELECT refobjid::regclass || '.' || quote_ident(attname)
                 FROM pg_depend JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
                 WHERE classid = 'pg_class'::regclass AND objid = relation.oid AND deptype IN ('a', 'i')
                   AND refclassid = 'pg_class'::regclass),
    'type', seqtypid::regtype::text, 'start', seqstart::text, 'increment', seqincrement::text, 'min', seqmin::text,
    'max', seqmax::text, 'cache', seqcache::text, 'cycle', CASE WHEN seqcycle THEN 'yes' END,
    'persistence', CASE relpersistence WHEN 'u' THEN 'unlogged' END,
    'owner', CASE WHEN relowner <> owner.oid THEN quote_ident(pg_get_userbyid(relowner)) END)
FROM pg_sequence JOIN relation ON relation.oid = seqrelid, owner

UNION ALL
SELECT 'type', '', quote_ident(typname), json_build_object(
    'is', CASE typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'r' THEN 'range' WHEN 'c' THEN 'composite'
                       ELSE 'base' END,
    'labels', (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
               FROM pg_enum WHERE enumtypid = pg_type.oid),
    'base', CASE WHEN typtype = 'd' THEN format_type(typbasetype, typtypmod) END,
    'constraints', (SELECT string_agg(pg_get_constraintdef(pg_constraint.oid), ', ' ORDER BY conname)
                    FROM pg_constraint WHERE contypid = pg_type.oid),
    'columns', (SELECT string_agg(quote_ident(attname) || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
                FROM pg_attribute WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped),
    'owner', CASE WHEN typowner <> owner.oid THEN quote_ident(pg_get_userbyid(typowner)) END)
FROM pg_type JOIN schema ON typnamespace = schema.oid, owner
WHERE typelem = 0 AND typtype <> 'm'
  AND (typrelid = 0 OR EXISTS (SELECT FROM pg_class WHERE pg_class.oid = typrelid AND relkind = 'c'))
  AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_type'::regclass AND objid = pg_type.oid)

UNION ALL
SELECT 'policy', relation.name, quote_ident(polname), json_build_object(
    'permissive', CASE WHEN NOT polpermissive THEN 'no' END,
    'command', CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
                           ELSE 'ALL' END,
    'roles', (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END, ', ')
              FROM unnest(polroles) AS role),
    'using', pg_get_expr(polqual, polrelid), 'check', pg_get_expr(polwithcheck, polrelid))
FROM pg_policy JOIN relation ON relation.oid = polrelid

UNION ALL
SELECT 'rule', relation.name, quote_ident(rulename), json_build_object(
    'definition', pg_get_ruledef(pg_rewrite.oid),
    'enabled', CASE ev_enabled WHEN 'D' THEN 'no' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END)
FROM pg_rewrite JOIN relation ON relation.oid = ev_class WHERE rulename <> '_RETURN'

UNION ALL
SELECT 'statistics', '', quote_ident(stxname), json_build_object(
    'definition', regexp_replace(pg_get_statisticsobjdef(pg_statistic_ext.oid), '^CREATE STATISTICS \S+ ', ''))
FROM pg_statistic_ext JOIN schema ON stxnamespace = schema.oid

UNION ALL
SELECT 'grant', '', kind || ' ' || name || ' to ' || grantee, json_build_object('extra', extra, 'lacks', lacks)
FROM privilege

UNION ALL
SELECT 'extension', '', quote_ident(extname), '{}' FROM pg_extension

UNION ALL
SELECT 'schema', '', quote_ident(pg_namespace.nspname), json_build_object(
    'owner', CASE WHEN pg_namespace.nspowner NOT IN (owner.oid, 'pg_database_owner'::regrole)
                  THEN quote_ident(pg_get_userbyid(pg_namespace.nspowner)) END)
FROM pg_namespace, owner
WHERE pg_namespace.nspname !~ '^pg_' AND pg_namespace.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_namespace'::regclass AND objid = pg_namespace.oid)

UNION ALL
SELECT 'other', '', identified.type || ' ' || identified.identity, '{}'
FROM other CROSS JOIN LATERAL pg_identify_object(class, oid, 0) AS identified
WHERE NOT EXISTS (SELECT FROM member WHERE classid = class AND objid = oid)
