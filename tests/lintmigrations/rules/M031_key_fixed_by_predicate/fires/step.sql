CREATE TABLE badges (id bigint PRIMARY KEY, is_default boolean, used_at timestamptz);
CREATE INDEX idx_badges_is_default ON badges (is_default) WHERE is_default = true;
CREATE INDEX idx_badges_unused ON badges (used_at, id) WHERE (used_at IS NULL) AND NOT is_default;
