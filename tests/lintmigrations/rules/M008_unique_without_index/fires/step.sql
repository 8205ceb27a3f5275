ALTER TABLE users ADD CONSTRAINT users_email_key UNIQUE (email);
ALTER TABLE sessions ADD COLUMN token text UNIQUE;
