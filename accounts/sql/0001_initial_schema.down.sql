DROP TRIGGER update_user_identities_updated_at ON user_identities;
DROP TRIGGER update_users_updated_at ON users;
