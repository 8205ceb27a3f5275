CREATE TABLE events (id uuid, at timestamptz NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE UNIQUE INDEX idx_events_at ON events (at, id);
