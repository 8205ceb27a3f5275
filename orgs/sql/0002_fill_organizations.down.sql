-- Only what the way up wrote and nobody has touched since; the foreign keys to it are gone by now.
DELETE FROM organizations
WHERE created_at = updated_at
  AND settings IS NULL
  AND status = 'active'
  AND (name = id OR id = 'ORG-DEFAULT-001')
  AND NOT EXISTS (SELECT FROM organization_domains WHERE organization_id = organizations.id);
