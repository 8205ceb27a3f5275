CREATE INDEX CONCURRENTLY idx_tenants_organization_id ON tenants (organization_id);
