CREATE TABLE badges (id bigint PRIMARY KEY, is_default boolean, used_at timestamptz);
CREATE INDEX idx_badges_unused ON badges (is_default, id) WHERE used_at IS NULL;
CREATE INDEX idx_badges_either ON badges (is_default) WHERE is_default OR used_at IS NULL;
CREATE UNIQUE INDEX idx_badges_one_default ON badges (is_default) WHERE is_default;
