DROP TRIGGER update_groups_updated_at ON groups;
DROP TRIGGER set_groups_parent_depth ON groups;
DROP FUNCTION set_group_parent_depth();
ALTER TABLE groups DROP CONSTRAINT groups_tenant_id_parent_group_id_parent_depth_fkey;
