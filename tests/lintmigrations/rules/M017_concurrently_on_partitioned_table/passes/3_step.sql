CREATE INDEX CONCURRENTLY idx_events_id_default ON events_default (id);
