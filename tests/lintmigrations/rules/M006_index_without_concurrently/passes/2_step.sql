CREATE TABLE badges (id bigint PRIMARY KEY, label text);
CREATE INDEX idx_badges_label ON badges (label);
