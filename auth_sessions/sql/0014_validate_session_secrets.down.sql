-- A rule cannot be made unvalidated again; it is taken away and put back unvalidated.
ALTER TABLE sessions DROP CONSTRAINT check_session_id_hashed;
ALTER TABLE sessions ADD CONSTRAINT check_session_id_hashed
    CHECK (session_id ~ '^[0-9a-f]{64}$') NOT VALID;
ALTER TABLE console_sessions DROP CONSTRAINT check_console_session_id_hashed;
ALTER TABLE console_sessions ADD CONSTRAINT check_console_session_id_hashed
    CHECK (session_id ~ '^[0-9a-f]{64}$') NOT VALID;
ALTER TABLE oauth_states DROP CONSTRAINT check_oauth_state_hashed;
ALTER TABLE oauth_states ADD CONSTRAINT check_oauth_state_hashed
    CHECK (state ~ '^[0-9a-f]{64}$') NOT VALID;
