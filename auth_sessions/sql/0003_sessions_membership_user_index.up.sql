CREATE INDEX CONCURRENTLY idx_sessions_active_membership_user ON sessions (active_membership_id, user_id);
