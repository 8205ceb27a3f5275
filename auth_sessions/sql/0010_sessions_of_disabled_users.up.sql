-- The lock waits for a user that is being disabled, and makes whoever disables wait for this session.
CREATE FUNCTION refuse_session_of_disabled_user() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    disabled boolean;
BEGIN
    SELECT disabled_at IS NOT NULL INTO disabled FROM users WHERE id = NEW.user_id FOR SHARE;
    IF disabled THEN
        RAISE check_violation USING
            TABLE = 'sessions', COLUMN = 'user_id', CONSTRAINT = 'sessions_user_is_enabled',
            MESSAGE = format('The user %s is disabled: no session can be started. Enable the user first.', NEW.user_id);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER sessions_user_is_enabled
    BEFORE INSERT ON sessions
    FOR EACH ROW WHEN (NOT NEW.revoked)
    EXECUTE FUNCTION refuse_session_of_disabled_user();

-- Enabling revokes too: a session that was started at the moment of disabling, and that the disabling transaction did
-- not see (REPEATABLE READ), is not to come to life again.
CREATE FUNCTION revoke_sessions_of_disabled_user() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sessions SET revoked = true, revoked_at = statement_timestamp(), revoked_reason = 'user_disabled'
    WHERE user_id = NEW.id AND NOT revoked;
    RETURN NULL;
END
$$;

CREATE TRIGGER revoke_sessions_of_disabled_user
    AFTER UPDATE OF disabled_at ON users
    FOR EACH ROW WHEN ((OLD.disabled_at IS NULL) <> (NEW.disabled_at IS NULL))
    EXECUTE FUNCTION revoke_sessions_of_disabled_user();

-- A stale copy of the row, saved after the revocation, would bring the session back to life.
CREATE FUNCTION refuse_to_unrevoke() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE check_violation USING
        TABLE = 'sessions', COLUMN = 'revoked', CONSTRAINT = 'sessions_stay_revoked',
        MESSAGE = format('The session %s was revoked, and stays so. Start another one.', NEW.id);
END
$$;

CREATE TRIGGER sessions_stay_revoked
    BEFORE UPDATE OF revoked ON sessions
    FOR EACH ROW WHEN (OLD.revoked AND NOT NEW.revoked)
    EXECUTE FUNCTION refuse_to_unrevoke();

-- Where an erased person has been, and with what.
CREATE FUNCTION forget_clients_of_sessions() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sessions SET ip_address = NULL, user_agent = NULL WHERE user_id = NEW.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER forget_clients_of_sessions
    AFTER UPDATE OF anonymized_at ON users
    FOR EACH ROW WHEN (OLD.anonymized_at IS NULL AND NEW.anonymized_at IS NOT NULL)
    EXECUTE FUNCTION forget_clients_of_sessions();
