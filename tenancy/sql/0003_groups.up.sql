-- The depths hold the tree together: no depths satisfy a cycle. ON UPDATE CASCADE carries a move down the tree, until
-- check_group_depth stops what would go round for ever.
ALTER TABLE groups ADD CONSTRAINT groups_tenant_id_parent_group_id_parent_depth_fkey
    FOREIGN KEY (tenant_id, parent_group_id, parent_depth)
    REFERENCES groups (tenant_id, id, depth) ON UPDATE CASCADE ON DELETE CASCADE;

-- Writers name the parent alone. What is filled in here, the foreign key judges: a depth read from an old snapshot, or a
-- parent in another tenant, is refused there.
CREATE FUNCTION set_group_parent_depth() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.parent_depth := NULL;
    IF NEW.parent_group_id IS NOT NULL THEN
        SELECT depth INTO NEW.parent_depth FROM groups WHERE id = NEW.parent_group_id;
        -- No such parent: any depth will do, so that the foreign key, not check_parent_depth, tells what is wrong.
        NEW.parent_depth := coalesce(NEW.parent_depth, 0);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER set_groups_parent_depth
    BEFORE INSERT OR UPDATE OF parent_group_id, parent_depth ON groups
    FOR EACH ROW WHEN (NEW.parent_group_id IS NOT NULL OR NEW.parent_depth IS NOT NULL)
    EXECUTE FUNCTION set_group_parent_depth();

-- PostgreSQL allows no NEW.* here, since depth is generated (and follows parent_depth).
CREATE TRIGGER update_groups_updated_at
    BEFORE UPDATE ON groups
    FOR EACH ROW WHEN (
        (OLD.id, OLD.tenant_id, OLD.name, OLD.description, OLD.parent_group_id, OLD.parent_depth,
         OLD.created_at, OLD.updated_at)
        IS DISTINCT FROM
        (NEW.id, NEW.tenant_id, NEW.name, NEW.description, NEW.parent_group_id, NEW.parent_depth,
         NEW.created_at, NEW.updated_at)
    )
    EXECUTE FUNCTION update_updated_at_column();
