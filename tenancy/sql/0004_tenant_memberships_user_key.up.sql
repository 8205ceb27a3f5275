CREATE UNIQUE INDEX CONCURRENTLY tenant_memberships_id_user_id_key ON tenant_memberships (id, user_id);
