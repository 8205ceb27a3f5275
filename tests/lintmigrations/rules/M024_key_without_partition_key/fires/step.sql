CREATE TABLE events (id uuid, at timestamptz NOT NULL, label text, PRIMARY KEY (id)) PARTITION BY RANGE (at);
CREATE UNIQUE INDEX idx_events_label ON events (label);
