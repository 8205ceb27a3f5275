DROP TRIGGER take_left_membership_off_sessions ON tenant_memberships;
DROP FUNCTION take_left_membership_off_sessions();
DROP TRIGGER sessions_active_membership_is_active ON sessions;
DROP FUNCTION refuse_session_in_left_membership();
