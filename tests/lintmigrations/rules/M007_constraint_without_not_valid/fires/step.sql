ALTER TABLE tenants ADD CONSTRAINT check_name CHECK (name <> '');
ALTER TABLE sessions ADD COLUMN uses integer CHECK (uses >= 0);
ALTER TABLE console_sessions ADD CONSTRAINT console_sessions_organization_fkey
    FOREIGN KEY (organization_id) REFERENCES organizations (id);
