CREATE TABLE events (id uuid, at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE events_default PARTITION OF events DEFAULT;
