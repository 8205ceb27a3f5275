INSERT INTO organizations (id, name) VALUES ('ORG-DEFAULT-001', 'Default') ON CONFLICT DO NOTHING;
