CREATE UNIQUE INDEX CONCURRENTLY organization_domains_organization_id_domain_key
    ON organization_domains (organization_id, domain);
-- The new one begins with its column.
DROP INDEX CONCURRENTLY IF EXISTS idx_organization_domains_org_id;
