CREATE INDEX idx_tenants_name ON tenants (name);
