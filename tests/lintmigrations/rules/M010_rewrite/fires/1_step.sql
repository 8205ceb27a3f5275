CREATE TABLE badges (id integer PRIMARY KEY, label varchar(20));
