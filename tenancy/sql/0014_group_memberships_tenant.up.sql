-- Writers name the group and the user. The tenant is the group's; the membership of the tenant is really updated, so
-- that whoever leaves at this moment, with a snapshot from before, fails with a serialization error.
CREATE FUNCTION set_group_membership_tenant() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    SELECT tenant_id INTO NEW.tenant_id FROM groups WHERE id = NEW.group_id FOR KEY SHARE;
    UPDATE tenant_memberships SET left_at = NULL
    WHERE tenant_id = NEW.tenant_id AND user_id = NEW.user_id AND left_at IS NULL;
    -- Without a group or a user the foreign keys tell what is wrong.
    IF NOT FOUND AND NEW.tenant_id IS NOT NULL AND EXISTS (SELECT FROM users WHERE id = NEW.user_id) THEN
        RAISE check_violation USING
            TABLE = 'group_memberships', CONSTRAINT = 'group_members_are_members',
            MESSAGE = format('user %s is no member of the group''s tenant %s', NEW.user_id, NEW.tenant_id),
            HINT = 'Make the user a member of the tenant first.';
    END IF;
    -- Without a group there is no tenant; any will do, so that the key of the group refuses the row.
    NEW.tenant_id := coalesce(NEW.tenant_id, NEW.group_id);
    RETURN NEW;
END
$$;

CREATE TRIGGER set_group_memberships_tenant
    BEFORE INSERT OR UPDATE OF group_id, user_id, tenant_id ON group_memberships
    FOR EACH ROW EXECUTE FUNCTION set_group_membership_tenant();

CREATE TRIGGER refuse_to_move_groups
    BEFORE UPDATE OF tenant_id ON groups
    FOR EACH ROW WHEN (OLD.tenant_id <> NEW.tenant_id)
    EXECUTE FUNCTION refuse_to_move();

-- Whoever leaves a tenant leaves its groups.
CREATE FUNCTION leave_groups() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM group_memberships WHERE tenant_id = NEW.tenant_id AND user_id = NEW.user_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER leave_groups
    AFTER UPDATE OF left_at ON tenant_memberships
    FOR EACH ROW WHEN (OLD.left_at IS NULL AND NEW.left_at IS NOT NULL)
    EXECUTE FUNCTION leave_groups();
