-- A key cannot be made unvalidated again; it is taken away and put back unvalidated.
ALTER TABLE tenants DROP CONSTRAINT tenants_organization_id_fkey;
ALTER TABLE tenants ADD CONSTRAINT tenants_organization_id_fkey
    FOREIGN KEY (organization_id) REFERENCES organizations (id) NOT VALID;
ALTER TABLE console_sessions DROP CONSTRAINT console_sessions_organization_id_fkey;
ALTER TABLE console_sessions ADD CONSTRAINT console_sessions_organization_id_fkey
    FOREIGN KEY (organization_id) REFERENCES organizations (id) ON DELETE CASCADE NOT VALID;
