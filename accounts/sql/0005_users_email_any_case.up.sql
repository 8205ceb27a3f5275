-- lintmigrations: squawk.ban-drop-constraint because the new index refuses all that the constraint refused
ALTER TABLE users DROP CONSTRAINT idx_users_email;
-- lintmigrations: squawk.renaming-object because no statement names an index
ALTER INDEX idx_users_email_any_case RENAME TO idx_users_email;
