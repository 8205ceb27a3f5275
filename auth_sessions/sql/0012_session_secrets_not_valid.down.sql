ALTER TABLE oauth_states DROP CONSTRAINT check_oauth_state_hashed;
ALTER TABLE console_sessions DROP CONSTRAINT check_console_session_id_hashed;
ALTER TABLE sessions DROP CONSTRAINT check_session_id_hashed;
DROP TRIGGER hash_oauth_states ON oauth_states;
DROP TRIGGER hash_session_ids ON console_sessions;
DROP TRIGGER hash_session_ids ON sessions;
DROP FUNCTION hash_oauth_state();
DROP FUNCTION hash_session_id();
