INSERT INTO organizations (id, name, slug)
VALUES ('ORG-DEFAULT-001', 'Default Organization', 'default')
ON CONFLICT DO NOTHING;

-- Every organization that anything speaks of. The walks jump from one id to the next by index, so that a hundred
-- million audit rows cost as many steps as there are organizations. An empty id belongs to no organization.
WITH RECURSIVE
in_tenants (id) AS (
    SELECT min(organization_id) FROM tenants WHERE organization_id > ''
    UNION ALL
    SELECT (SELECT min(organization_id) FROM tenants WHERE organization_id > walk.id)
    FROM in_tenants AS walk WHERE walk.id IS NOT NULL
),
in_console_sessions (id) AS (
    SELECT min(organization_id) FROM console_sessions WHERE organization_id > ''
    UNION ALL
    SELECT (SELECT min(organization_id) FROM console_sessions WHERE organization_id > walk.id)
    FROM in_console_sessions AS walk WHERE walk.id IS NOT NULL
),
in_audit_logs (id) AS (
    SELECT min(organization_id) FROM audit_logs WHERE organization_id > ''
    UNION ALL
    SELECT (SELECT min(organization_id) FROM audit_logs WHERE organization_id > walk.id)
    FROM in_audit_logs AS walk WHERE walk.id IS NOT NULL
),
known (id) AS (
    SELECT id FROM in_tenants UNION SELECT id FROM in_console_sessions UNION SELECT id FROM in_audit_logs
),
missing (id, slug) AS (
    SELECT id, trim(BOTH '-' FROM left(trim(BOTH '-' FROM regexp_replace(lower(id), '[^a-z0-9]+', '-', 'g')), 50))
    FROM known
    WHERE id IS NOT NULL AND NOT EXISTS (SELECT FROM organizations WHERE organizations.id = known.id)
)
INSERT INTO organizations (id, name, slug)
SELECT id, id,
    -- A slug that is empty, taken, or the same for two ids gets a piece of its id's digest.
    CASE WHEN slug <> '' AND count(*) OVER (PARTITION BY slug) = 1
              AND NOT EXISTS (SELECT FROM organizations WHERE organizations.slug = missing.slug)
         THEN slug
         ELSE trim(LEADING '-' FROM slug || '-' || left(md5(id), 12))
    END
FROM missing;
