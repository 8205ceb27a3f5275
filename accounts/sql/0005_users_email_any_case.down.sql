ALTER INDEX idx_users_email RENAME TO idx_users_email_any_case;
-- lintmigrations: keyhub.M008 because no step before this one has the index that the constraint could take up
ALTER TABLE users ADD CONSTRAINT idx_users_email UNIQUE (email);
