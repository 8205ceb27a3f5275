INSERT INTO organizations (id) SELECT DISTINCT organization_id FROM tenants ON CONFLICT DO NOTHING;
