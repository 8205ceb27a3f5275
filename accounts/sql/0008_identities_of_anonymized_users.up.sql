CREATE FUNCTION forget_identities() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM user_identities WHERE user_id = NEW.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER forget_identities
    AFTER UPDATE OF anonymized_at ON users
    FOR EACH ROW WHEN (OLD.anonymized_at IS NULL AND NEW.anonymized_at IS NOT NULL)
    EXECUTE FUNCTION forget_identities();

CREATE FUNCTION refuse_identity_of_anonymized_user() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    anonymized boolean;
BEGIN
    -- Written, not only locked: in REPEATABLE READ an anonymization whose snapshot lacks this identity then ends in
    -- 40001, where a lock that is gone by then would let it pass.
    UPDATE users SET updated_at = updated_at WHERE id = NEW.user_id
    RETURNING anonymized_at IS NOT NULL INTO anonymized;
    IF anonymized THEN
        RAISE check_violation USING
            TABLE = 'user_identities', CONSTRAINT = 'user_identities_user_is_not_anonymized',
            MESSAGE = 'An anonymized user gets no outside identity.';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER refuse_identities_of_anonymized_users
    BEFORE INSERT OR UPDATE OF user_id ON user_identities
    FOR EACH ROW EXECUTE FUNCTION refuse_identity_of_anonymized_user();

CREATE FUNCTION refuse_to_undo_anonymization() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE check_violation USING
        TABLE = 'users', CONSTRAINT = 'users_stay_anonymized',
        MESSAGE = format('The user %s is anonymized, and stays so.', NEW.id);
END
$$;

CREATE TRIGGER refuse_to_undo_anonymization
    BEFORE UPDATE OF anonymized_at ON users
    FOR EACH ROW WHEN (OLD.anonymized_at IS NOT NULL AND NEW.anonymized_at IS DISTINCT FROM OLD.anonymized_at)
    EXECUTE FUNCTION refuse_to_undo_anonymization();
