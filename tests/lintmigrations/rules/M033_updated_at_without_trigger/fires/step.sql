CREATE TABLE badges (id bigint PRIMARY KEY, updated_at timestamptz);
