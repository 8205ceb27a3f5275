-- lintmigrations: squawk.renaming-object because no query names an index
ALTER INDEX idx_sessions_active_membership RENAME TO idx_sessions_active_membership_alone;
-- lintmigrations: squawk.renaming-object because no query names an index
ALTER INDEX idx_sessions_active_membership_user RENAME TO idx_sessions_active_membership;
