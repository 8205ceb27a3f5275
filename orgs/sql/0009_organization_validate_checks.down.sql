-- A constraint cannot be made unvalidated again; it is taken away and put back unvalidated.
ALTER TABLE organizations DROP CONSTRAINT check_organization_slug;
ALTER TABLE organizations ADD CONSTRAINT check_organization_slug CHECK (
    slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'
) NOT VALID;
ALTER TABLE organizations DROP CONSTRAINT check_organization_name;
ALTER TABLE organizations ADD CONSTRAINT check_organization_name CHECK (name ~ '\S') NOT VALID;
ALTER TABLE organization_domains DROP CONSTRAINT check_organization_domain;
ALTER TABLE organization_domains ADD CONSTRAINT check_organization_domain CHECK (
    length(domain) <= 253
    AND domain ~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'
) NOT VALID;
ALTER TABLE organization_domains DROP CONSTRAINT check_failed_checks;
ALTER TABLE organization_domains ADD CONSTRAINT check_failed_checks CHECK (failed_checks >= 0) NOT VALID;
