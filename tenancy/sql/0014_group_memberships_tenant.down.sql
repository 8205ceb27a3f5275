DROP TRIGGER leave_groups ON tenant_memberships;
DROP FUNCTION leave_groups();
DROP TRIGGER carry_group_memberships ON groups;
DROP FUNCTION carry_group_memberships();
DROP TRIGGER set_group_memberships_tenant ON group_memberships;
DROP FUNCTION set_group_membership_tenant();
