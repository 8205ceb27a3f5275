DROP INDEX CONCURRENTLY IF EXISTS idx_users_email_any_case;
