-- lintmigrations: squawk.ban-drop-constraint because the new index holds all that this one holds, and more
ALTER TABLE tenant_join_codes DROP CONSTRAINT idx_tenant_join_codes_code;
-- lintmigrations: squawk.require-concurrent-index-deletion because the names change hands in one transaction
DROP INDEX idx_tenant_join_codes_active;
-- lintmigrations: squawk.renaming-object because nobody knows the new name yet
ALTER INDEX idx_tenant_join_codes_code_new RENAME TO idx_tenant_join_codes_code;
-- lintmigrations: squawk.renaming-object because nobody knows the new name yet
ALTER INDEX idx_tenant_join_codes_active_new RENAME TO idx_tenant_join_codes_active;
