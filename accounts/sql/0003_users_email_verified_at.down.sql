DROP TRIGGER clear_users_email_verified_at ON users;
DROP FUNCTION clear_user_email_verified_at();
