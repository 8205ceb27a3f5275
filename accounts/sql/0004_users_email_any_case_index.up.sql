CREATE UNIQUE INDEX CONCURRENTLY idx_users_email_any_case ON users (lower(email));
