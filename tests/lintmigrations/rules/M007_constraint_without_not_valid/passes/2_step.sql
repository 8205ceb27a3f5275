ALTER TABLE tenants ADD CONSTRAINT check_name CHECK (name <> '') NOT VALID;
ALTER TABLE console_sessions ADD CONSTRAINT console_sessions_organization_fkey
    FOREIGN KEY (organization_id) REFERENCES organizations (id) NOT VALID;
ALTER TABLE sessions ADD COLUMN badge_id uuid REFERENCES tenants (id), ADD COLUMN uses integer;
CREATE TABLE badges (tenant_id uuid PRIMARY KEY REFERENCES tenants (id));
ALTER TABLE badges ADD CONSTRAINT check_badge CHECK (tenant_id IS NOT NULL);
