-- Organizations that came into use between the fill and the keys. The keys now refuse further ones, so that nothing is
-- left that would fail their validation.
INSERT INTO organizations (id, name, slug)
SELECT id, id, 'org-' || left(md5(id), 16)
FROM (
    SELECT organization_id FROM tenants
    UNION SELECT organization_id FROM console_sessions
    EXCEPT SELECT id FROM organizations
) AS late (id)
ON CONFLICT DO NOTHING;
