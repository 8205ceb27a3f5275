CREATE TABLE marks (id integer PRIMARY KEY);
ALTER TABLE marks ALTER COLUMN id TYPE bigint;
