DROP INDEX CONCURRENTLY IF EXISTS idx_tenant_join_codes_active_new;
DROP INDEX CONCURRENTLY IF EXISTS idx_tenant_join_codes_code_new;
