ALTER TABLE sessions DROP CONSTRAINT check_session_revoked;
ALTER TABLE sessions DROP CONSTRAINT check_session_expires_at;
ALTER TABLE sessions DROP CONSTRAINT sessions_active_membership_id_user_id_fkey;
