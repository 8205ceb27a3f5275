CREATE TABLE badges (id bigint PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT statement_timestamp());
