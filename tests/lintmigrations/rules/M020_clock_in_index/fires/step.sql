CREATE TABLE badges (id bigint PRIMARY KEY, ends_at timestamptz);
CREATE INDEX idx_badges_live ON badges (id, ends_at) WHERE ends_at > CURRENT_TIMESTAMP;
CREATE INDEX idx_badges_age ON badges ((now() - ends_at));
