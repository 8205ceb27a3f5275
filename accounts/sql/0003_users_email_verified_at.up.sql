-- What was verified is the old address, whoever writes the new one, and whatever time a writer brings along that read
-- the row before it was last changed.
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
        OLD.email IS DISTINCT FROM NEW.email AND (
            NEW.email_verified_at IS NOT DISTINCT FROM OLD.email_verified_at OR NEW.email_verified_at <= OLD.updated_at
        )
    )
    EXECUTE FUNCTION clear_user_email_verified_at();
