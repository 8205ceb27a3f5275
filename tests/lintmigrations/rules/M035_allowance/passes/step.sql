-- lintmigrations: keyhub.M006 because tenants has a dozen rows
CREATE INDEX idx_tenants_name ON tenants (name);
