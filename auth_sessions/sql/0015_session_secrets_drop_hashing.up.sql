-- A secret in clear is refused from here on: whoever still writes one is to know.
DROP TRIGGER hash_oauth_states ON oauth_states;
DROP TRIGGER hash_session_ids ON console_sessions;
DROP TRIGGER hash_session_ids ON sessions;
-- lintmigrations: squawk.ban-drop-function because only the triggers above called it
DROP FUNCTION hash_oauth_state();
-- lintmigrations: squawk.ban-drop-function because only the triggers above called it
DROP FUNCTION hash_session_id();
