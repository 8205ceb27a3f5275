-- lintmigrations: squawk.ban-drop-constraint because the key of membership and user guarantees more
ALTER TABLE sessions DROP CONSTRAINT sessions_active_membership_id_fkey;
