DROP TABLE oauth_states;
ALTER TABLE users RENAME TO people;
