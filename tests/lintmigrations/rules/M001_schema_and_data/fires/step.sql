CREATE TABLE organizations (id text PRIMARY KEY, name text NOT NULL);
INSERT INTO organizations (id, name) VALUES ('ORG-DEFAULT-001', 'Default') ON CONFLICT DO NOTHING;
