-- Whoever begins or switches a session locks the organization FOR SHARE until it ends, so that a suspension waits for it
-- and then sees it; whoever comes later waits for the suspension, and is refused (READ COMMITTED) or ends in 40001
-- (REPEATABLE READ).

CREATE FUNCTION refuse_console_session() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    organization_status text;
BEGIN
    SELECT status INTO organization_status FROM organizations WHERE id = NEW.organization_id FOR SHARE;
    IF organization_status <> 'active' THEN
        RAISE check_violation USING
            TABLE = 'console_sessions', CONSTRAINT = 'console_sessions_organization_is_active',
            MESSAGE = format('The organization is %s: no console session begins before it is resumed.',
                organization_status);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER refuse_console_sessions
    BEFORE INSERT OR UPDATE OF organization_id ON console_sessions
    FOR EACH ROW EXECUTE FUNCTION refuse_console_session();

CREATE FUNCTION refuse_session_in_organization() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    tenants_organization text;
    organization_status text;
BEGIN
    -- Two queries, not a join: of a join whose tenant has been moved while it waited, no row would be left to refuse.
    SELECT organization_id INTO tenants_organization FROM tenants
    WHERE id = (SELECT tenant_id FROM tenant_memberships WHERE id = NEW.active_membership_id)
    FOR SHARE;
    SELECT status INTO organization_status FROM organizations WHERE id = tenants_organization FOR SHARE;
    IF organization_status <> 'active' THEN
        RAISE check_violation USING
            TABLE = 'sessions', CONSTRAINT = 'sessions_organization_is_active',
            MESSAGE = format('The organization is %s: no session acts in its tenants before it is resumed.',
                organization_status);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER refuse_sessions_in_organizations
    BEFORE INSERT OR UPDATE OF active_membership_id ON sessions
    FOR EACH ROW WHEN (NEW.active_membership_id IS NOT NULL)
    EXECUTE FUNCTION refuse_session_in_organization();

-- A snapshot that is older than a session's commit does not show it, and no lock tells of it afterwards. To be told,
-- every switch would have to write the organization's row, and all of an organization's people would queue there; so
-- the rare statement asks for READ COMMITTED, in which each query of a function has a snapshot of its own.
CREATE FUNCTION require_read_committed(what text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE invalid_transaction_state USING
            MESSAGE = what || ' in READ COMMITTED alone.',
            HINT = 'In another isolation level, sessions that begin meanwhile would not be seen, and stay.';
    END IF;
END
$$;

CREATE FUNCTION end_sessions_of_organization() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM require_read_committed('An organization is suspended or archived');
    DELETE FROM console_sessions WHERE organization_id = NEW.id;
    UPDATE sessions SET active_membership_id = NULL
    WHERE active_membership_id IN (
        SELECT tenant_memberships.id
        FROM tenant_memberships JOIN tenants ON tenants.id = tenant_memberships.tenant_id
        WHERE tenants.organization_id = NEW.id
    );
    RETURN NULL;
END
$$;

CREATE TRIGGER end_sessions_of_organizations
    AFTER UPDATE OF status ON organizations
    FOR EACH ROW WHEN (OLD.status = 'active' AND NEW.status <> 'active')
    EXECUTE FUNCTION end_sessions_of_organization();

-- A tenant may be moved into an organization that is not active.
CREATE FUNCTION end_sessions_of_moved_tenant() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM organizations WHERE id = NEW.organization_id AND status = 'active' FOR SHARE;
    IF NOT FOUND THEN
        PERFORM require_read_committed('A tenant is moved into an organization that is not active');
        UPDATE sessions SET active_membership_id = NULL
        WHERE active_membership_id IN (SELECT id FROM tenant_memberships WHERE tenant_id = NEW.id);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER end_sessions_of_moved_tenants
    AFTER UPDATE OF organization_id ON tenants
    FOR EACH ROW WHEN (OLD.organization_id IS DISTINCT FROM NEW.organization_id)
    EXECUTE FUNCTION end_sessions_of_moved_tenant();
