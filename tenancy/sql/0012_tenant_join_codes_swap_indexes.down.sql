ALTER INDEX idx_tenant_join_codes_active RENAME TO idx_tenant_join_codes_active_new;
ALTER INDEX idx_tenant_join_codes_code RENAME TO idx_tenant_join_codes_code_new;
-- lintmigrations: keyhub.M006 because codes are some thousands, and the names change hands in one transaction
CREATE INDEX idx_tenant_join_codes_active ON tenant_join_codes (tenant_id, expires_at);
-- lintmigrations: keyhub.M008 because codes are some thousands, and the names change hands in one transaction
ALTER TABLE tenant_join_codes ADD CONSTRAINT idx_tenant_join_codes_code UNIQUE (code);
