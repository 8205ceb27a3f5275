CREATE INDEX CONCURRENTLY idx_events_id ON events (id);
