-- A session acts in a membership that has not been left. The UPDATE changes no value, but writes the row: whoever leaves
-- by an older snapshot (REPEATABLE READ) meets a changed row and gets 40001. After a mere lock (FOR SHARE) the leave
-- would go through, and not see this session.
CREATE FUNCTION refuse_session_in_left_membership() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.active_membership_id IS NOT DISTINCT FROM OLD.active_membership_id THEN
        RETURN NEW;
    END IF;
    UPDATE tenant_memberships SET left_at = NULL WHERE id = NEW.active_membership_id AND left_at IS NULL;
    IF NOT FOUND AND EXISTS (SELECT FROM tenant_memberships WHERE id = NEW.active_membership_id) THEN
        RAISE check_violation USING
            TABLE = 'sessions', COLUMN = 'active_membership_id', CONSTRAINT = 'sessions_active_membership_is_active',
            MESSAGE = format('The membership %s has been left: no session can act in it. Choose another one.',
                NEW.active_membership_id);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER sessions_active_membership_is_active
    BEFORE INSERT OR UPDATE OF active_membership_id ON sessions
    FOR EACH ROW WHEN (NEW.active_membership_id IS NOT NULL)
    EXECUTE FUNCTION refuse_session_in_left_membership();

-- Whoever leaves a tenant acts in it no more, in any session. The sessions that act in what a leaked code gave end.
CREATE FUNCTION take_left_membership_off_sessions() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.left_reason = 'code_revoked' THEN
        UPDATE sessions SET revoked = true, revoked_at = statement_timestamp(), revoked_reason = 'join_code_revoked'
        WHERE active_membership_id = NEW.id AND NOT revoked;
    ELSE
        UPDATE sessions SET active_membership_id = NULL WHERE active_membership_id = NEW.id AND NOT revoked;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER take_left_membership_off_sessions
    AFTER UPDATE OF left_at ON tenant_memberships
    FOR EACH ROW WHEN (OLD.left_at IS NULL AND NEW.left_at IS NOT NULL)
    EXECUTE FUNCTION take_left_membership_off_sessions();
