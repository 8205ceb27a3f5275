CREATE UNIQUE INDEX CONCURRENTLY idx_tenant_join_codes_code_new ON tenant_join_codes (normalize_join_code(code));
CREATE INDEX CONCURRENTLY idx_tenant_join_codes_active_new ON tenant_join_codes (tenant_id, expires_at)
    WHERE revoked_at IS NULL;
