-- A key cannot be made unvalidated again; it is taken away and put back unvalidated.
ALTER TABLE group_memberships DROP CONSTRAINT group_memberships_tenant_id_user_id_fkey;
ALTER TABLE group_memberships ADD CONSTRAINT group_memberships_tenant_id_user_id_fkey
    FOREIGN KEY (tenant_id, user_id) REFERENCES tenant_memberships (tenant_id, user_id) ON DELETE CASCADE NOT VALID;
