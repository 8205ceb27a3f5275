DROP TRIGGER leave_groups ON tenant_memberships;
DROP FUNCTION leave_groups();
DROP TRIGGER refuse_to_move_groups ON groups;
DROP TRIGGER set_group_memberships_tenant ON group_memberships;
DROP FUNCTION set_group_membership_tenant();
