CREATE TABLE badges (id bigint PRIMARY KEY);
