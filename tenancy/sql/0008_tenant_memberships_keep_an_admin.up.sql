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

-- A person who is erased is nobody's member any more. The last admin of a tenant cannot be.
CREATE FUNCTION end_memberships_of_user() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tenant_memberships SET left_at = statement_timestamp(), left_reason = 'left'
    WHERE user_id = NEW.id AND left_at IS NULL;
    RETURN NULL;
END
$$;

CREATE TRIGGER end_memberships_of_anonymized_user
    AFTER UPDATE OF anonymized_at ON users
    FOR EACH ROW WHEN (OLD.anonymized_at IS NULL AND NEW.anonymized_at IS NOT NULL)
    EXECUTE FUNCTION end_memberships_of_user();
