ALTER TABLE tenant_memberships
    ADD CONSTRAINT tenant_memberships_id_user_id_key UNIQUE USING INDEX tenant_memberships_id_user_id_key;
