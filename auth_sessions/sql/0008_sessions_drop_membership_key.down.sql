-- lintmigrations: keyhub.M007 because the key was valid before, and going back is no everyday matter
ALTER TABLE sessions ADD CONSTRAINT sessions_active_membership_id_fkey
    FOREIGN KEY (active_membership_id) REFERENCES tenant_memberships (id) ON DELETE SET NULL;
