CREATE INDEX idx_events_id ON ONLY events (id);
