ALTER TABLE tenants ADD CONSTRAINT tenants_organization_id_fkey
    FOREIGN KEY (organization_id) REFERENCES organizations (id) NOT VALID;
