-- 20240101000001_initial_schema.down.sql

-- Drop triggers
DROP TRIGGER IF EXISTS update_tenant_memberships_updated_at ON tenant_memberships;
DROP TRIGGER IF EXISTS update_tenants_updated_at ON tenants;
DROP TRIGGER IF EXISTS update_user_identities_updated_at ON user_identities;
DROP TRIGGER IF EXISTS update_users_updated_at ON users;

-- Drop function
DROP FUNCTION IF EXISTS update_updated_at_column();

-- Drop tables (in reverse order of dependencies)
DROP TABLE IF EXISTS console_sessions;
DROP TABLE IF EXISTS tenant_join_codes;
DROP TABLE IF EXISTS oauth_states;
DROP TABLE IF EXISTS sessions;
DROP TABLE IF EXISTS tenant_memberships;
DROP TABLE IF EXISTS tenants;
DROP TABLE IF EXISTS user_identities;
DROP TABLE IF EXISTS users;
