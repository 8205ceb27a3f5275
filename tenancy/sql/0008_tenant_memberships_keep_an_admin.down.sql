DROP TRIGGER end_memberships_of_anonymized_user ON users;
DROP FUNCTION end_memberships_of_user();
DROP TRIGGER keep_an_admin_on_delete ON tenant_memberships;
DROP TRIGGER keep_an_admin_on_update ON tenant_memberships;
DROP FUNCTION keep_an_admin();
DROP TRIGGER clear_tenant_memberships_left_reason ON tenant_memberships;
DROP FUNCTION clear_left_reason();
