-- lintmigrations: keyhub.M006
CREATE INDEX idx_tenants_name ON tenants (name);
-- lintmigrations: keyhub.M006 because there is nothing here to allow
ANALYZE tenants;
-- lintmigrations: keyhub.X999 because there is no such rule
ANALYZE users;
