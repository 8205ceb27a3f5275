CREATE TABLE events (at timestamptz NOT NULL);
CREATE TABLE events_default PARTITION OF events DEFAULT;
