CREATE INDEX CONCURRENTLY idx_tenants_name ON tenants (name);
ANALYZE tenants;
