ALTER TABLE organizations ADD CONSTRAINT check_organization_slug CHECK (
    slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'
) NOT VALID;
ALTER TABLE organizations ADD CONSTRAINT check_organization_name CHECK (name ~ '\S') NOT VALID;
ALTER TABLE organization_domains ADD CONSTRAINT check_organization_domain CHECK (
    length(domain) <= 253
    AND domain ~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'
) NOT VALID;
ALTER TABLE organization_domains ADD CONSTRAINT check_failed_checks CHECK (failed_checks >= 0) NOT VALID;

-- What was proved is the old domain.
CREATE FUNCTION clear_domain_verification() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.is_verified := false;
    NEW.verified_at := NULL;
    NEW.verification_token := NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER clear_organization_domains_verification
    BEFORE UPDATE OF domain ON organization_domains
    FOR EACH ROW WHEN (lower(OLD.domain) <> lower(NEW.domain))
    EXECUTE FUNCTION clear_domain_verification();
