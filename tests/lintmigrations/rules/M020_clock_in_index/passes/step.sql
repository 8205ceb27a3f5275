CREATE TABLE badges (id bigint PRIMARY KEY, ends_at timestamptz);
CREATE INDEX idx_badges_live ON badges (ends_at) WHERE id > 0;
