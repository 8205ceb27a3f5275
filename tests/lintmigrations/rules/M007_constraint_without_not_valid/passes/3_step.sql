CREATE INDEX CONCURRENTLY idx_sessions_badge_id ON sessions (badge_id);
