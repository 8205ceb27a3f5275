DROP TRIGGER forget_clients_of_sessions ON users;
DROP FUNCTION forget_clients_of_sessions();
DROP TRIGGER sessions_stay_revoked ON sessions;
DROP FUNCTION refuse_to_unrevoke();
DROP TRIGGER revoke_sessions_of_disabled_user ON users;
DROP FUNCTION revoke_sessions_of_disabled_user();
DROP TRIGGER sessions_user_is_enabled ON sessions;
DROP FUNCTION refuse_session_of_disabled_user();
