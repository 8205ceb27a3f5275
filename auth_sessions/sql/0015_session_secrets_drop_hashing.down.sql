CREATE FUNCTION hash_session_id() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.session_id := encode(sha256(convert_to(NEW.session_id, 'UTF8')), 'hex');
    RETURN NEW;
END
$$;

CREATE FUNCTION hash_oauth_state() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.state := encode(sha256(convert_to(NEW.state, 'UTF8')), 'hex');
    RETURN NEW;
END
$$;

CREATE TRIGGER hash_session_ids
    BEFORE INSERT OR UPDATE ON sessions
    FOR EACH ROW WHEN (NEW.session_id !~ '^[0-9a-f]{64}$')
    EXECUTE FUNCTION hash_session_id();
CREATE TRIGGER hash_session_ids
    BEFORE INSERT OR UPDATE ON console_sessions
    FOR EACH ROW WHEN (NEW.session_id !~ '^[0-9a-f]{64}$')
    EXECUTE FUNCTION hash_session_id();
CREATE TRIGGER hash_oauth_states
    BEFORE INSERT OR UPDATE ON oauth_states
    FOR EACH ROW WHEN (NEW.state !~ '^[0-9a-f]{64}$')
    EXECUTE FUNCTION hash_oauth_state();
