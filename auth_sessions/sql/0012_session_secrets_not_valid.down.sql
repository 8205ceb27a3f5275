ALTER TABLE oauth_states DROP CONSTRAINT check_oauth_state_hashed;
ALTER TABLE console_sessions DROP CONSTRAINT check_console_session_id_hashed;
ALTER TABLE sessions DROP CONSTRAINT check_session_id_hashed;
