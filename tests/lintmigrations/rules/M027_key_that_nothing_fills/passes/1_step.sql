CREATE TABLE organizations (id text PRIMARY KEY);
