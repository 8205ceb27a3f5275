-- What was verified is the old address, whoever writes the new one.
CREATE FUNCTION clear_user_email_verified_at() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.email_verified_at := NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER clear_users_email_verified_at
    BEFORE UPDATE ON users
    FOR EACH ROW WHEN (
        OLD.email IS DISTINCT FROM NEW.email AND OLD.email_verified_at IS NOT DISTINCT FROM NEW.email_verified_at
    )
    EXECUTE FUNCTION clear_user_email_verified_at();
