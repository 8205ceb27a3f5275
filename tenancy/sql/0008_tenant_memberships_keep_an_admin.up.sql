-- Whoever comes back has no reason for having left any more; writers clear left_at alone.
CREATE FUNCTION clear_left_reason() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.left_reason := NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER clear_tenant_memberships_left_reason
    BEFORE UPDATE OF left_at ON tenant_memberships
    FOR EACH ROW WHEN (OLD.left_at IS NOT NULL AND NEW.left_at IS NULL)
    EXECUTE FUNCTION clear_left_reason();

-- A tenant that has an admin keeps one. Locking the admins who stay makes two who leave at once wait for each other; in
-- REPEATABLE READ the second one fails with a serialization error. A tenant that is deleted needs none.
CREATE FUNCTION keep_an_admin() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM tenant_memberships
    WHERE tenant_id = OLD.tenant_id AND role = 'admin' AND left_at IS NULL
    ORDER BY id
    LIMIT 1
    FOR NO KEY UPDATE;
    IF NOT FOUND AND EXISTS (SELECT FROM tenants WHERE id = OLD.tenant_id) THEN
        RAISE check_violation USING
            TABLE = 'tenant_memberships', CONSTRAINT = 'tenants_keep_an_admin',
            MESSAGE = format('tenant %s would be left without an admin', OLD.tenant_id),
            HINT = 'Make somebody else an admin first, or delete the tenant.';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER keep_an_admin_on_update
    AFTER UPDATE OF role, left_at, tenant_id ON tenant_memberships
    FOR EACH ROW WHEN (
        OLD.role = 'admin' AND OLD.left_at IS NULL
        AND (NEW.role <> 'admin' OR NEW.left_at IS NOT NULL OR NEW.tenant_id <> OLD.tenant_id)
    )
    EXECUTE FUNCTION keep_an_admin();

CREATE TRIGGER keep_an_admin_on_delete
    AFTER DELETE ON tenant_memberships
    FOR EACH ROW WHEN (OLD.role = 'admin' AND OLD.left_at IS NULL)
    EXECUTE FUNCTION keep_an_admin();

-- A person who is erased is nobody's member any more. The last admin of a tenant cannot be. The admins are locked as by
-- whoever leaves, in one order, so that two who go at once never wait for each other.
CREATE FUNCTION end_memberships_of_user() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM tenant_memberships
    WHERE role = 'admin' AND left_at IS NULL AND tenant_id IN (
        SELECT tenant_id FROM tenant_memberships WHERE user_id = NEW.id AND role = 'admin' AND left_at IS NULL
    )
    ORDER BY id
    FOR NO KEY UPDATE;
    UPDATE tenant_memberships SET left_at = statement_timestamp(), left_reason = 'left'
    WHERE user_id = NEW.id AND left_at IS NULL;
    RETURN NULL;
END
$$;

CREATE TRIGGER end_memberships_of_anonymized_user
    AFTER UPDATE OF anonymized_at ON users
    FOR EACH ROW WHEN (OLD.anonymized_at IS NULL AND NEW.anonymized_at IS NOT NULL)
    EXECUTE FUNCTION end_memberships_of_user();

-- Nor does such a person become one. The user's row is written, not only locked: in REPEATABLE READ an anonymization
-- whose snapshot lacks this membership then ends in 40001.
CREATE FUNCTION refuse_membership_of_anonymized_user() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    anonymized boolean;
BEGIN
    UPDATE users SET updated_at = updated_at WHERE id = NEW.user_id
    RETURNING anonymized_at IS NOT NULL INTO anonymized;
    IF anonymized THEN
        RAISE check_violation USING
            TABLE = 'tenant_memberships', CONSTRAINT = 'tenant_memberships_user_is_not_anonymized',
            MESSAGE = format('The user %s is anonymized, and becomes nobody''s member.', NEW.user_id);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER refuse_memberships_of_anonymized_users
    BEFORE INSERT ON tenant_memberships
    FOR EACH ROW WHEN (NEW.left_at IS NULL)
    EXECUTE FUNCTION refuse_membership_of_anonymized_user();
CREATE TRIGGER refuse_to_reopen_memberships_of_anonymized_users
    BEFORE UPDATE OF left_at ON tenant_memberships
    FOR EACH ROW WHEN (OLD.left_at IS NOT NULL AND NEW.left_at IS NULL)
    EXECUTE FUNCTION refuse_membership_of_anonymized_user();

-- Sessions and groups go by a membership and know its tenant and user: a membership of others is another one.
CREATE FUNCTION refuse_to_move() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE check_violation USING
        TABLE = TG_TABLE_NAME, CONSTRAINT = TG_TABLE_NAME || '_stay',
        MESSAGE = format('%s %s stays in its tenant. Make another one there.', TG_TABLE_NAME, NEW.id);
END
$$;

CREATE TRIGGER refuse_to_move_tenant_memberships
    BEFORE UPDATE OF tenant_id, user_id ON tenant_memberships
    FOR EACH ROW WHEN (OLD.tenant_id <> NEW.tenant_id OR OLD.user_id <> NEW.user_id)
    EXECUTE FUNCTION refuse_to_move();
