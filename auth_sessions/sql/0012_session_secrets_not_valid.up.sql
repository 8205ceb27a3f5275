-- New rows hold the SHA-256 of the secret from here on. The next migration turns the old ones over.
ALTER TABLE sessions ADD CONSTRAINT check_session_id_hashed
    CHECK (session_id ~ '^[0-9a-f]{64}$') NOT VALID;
ALTER TABLE console_sessions ADD CONSTRAINT check_console_session_id_hashed
    CHECK (session_id ~ '^[0-9a-f]{64}$') NOT VALID;
ALTER TABLE oauth_states ADD CONSTRAINT check_oauth_state_hashed
    CHECK (state ~ '^[0-9a-f]{64}$') NOT VALID;
