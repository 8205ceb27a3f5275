DROP TRIGGER end_sessions_of_moved_tenants ON tenants;
DROP FUNCTION end_sessions_of_moved_tenant();
DROP TRIGGER end_sessions_of_organizations ON organizations;
DROP FUNCTION end_sessions_of_organization();
DROP FUNCTION require_read_committed(text);
DROP TRIGGER refuse_sessions_in_organizations ON sessions;
DROP FUNCTION refuse_session_in_organization();
DROP TRIGGER refuse_console_sessions ON console_sessions;
DROP FUNCTION refuse_console_session();
