CREATE TABLE badges (id bigint PRIMARY KEY);
ALTER TABLE badges ADD COLUMN label text;
DROP TABLE IF EXISTS scratch;
