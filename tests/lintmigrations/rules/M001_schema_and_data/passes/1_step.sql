CREATE TABLE organizations (id text PRIMARY KEY, name text NOT NULL);
