-- A rule cannot be made unvalidated again; it is taken away and put back unvalidated.
ALTER TABLE sessions DROP CONSTRAINT sessions_active_membership_id_user_id_fkey;
ALTER TABLE sessions ADD CONSTRAINT sessions_active_membership_id_user_id_fkey
    FOREIGN KEY (active_membership_id, user_id) REFERENCES tenant_memberships (id, user_id)
    ON DELETE SET NULL (active_membership_id) NOT VALID;
ALTER TABLE sessions DROP CONSTRAINT check_session_expires_at;
ALTER TABLE sessions ADD CONSTRAINT check_session_expires_at
    CHECK (isfinite(expires_at) AND expires_at > created_at) NOT VALID;
ALTER TABLE sessions DROP CONSTRAINT check_session_revoked;
ALTER TABLE sessions ADD CONSTRAINT check_session_revoked
    CHECK (revoked OR (revoked_at IS NULL AND revoked_reason IS NULL)) NOT VALID;
