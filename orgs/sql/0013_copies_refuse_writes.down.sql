ALTER TABLE organizations ENABLE TRIGGER end_sessions_of_organizations;
CREATE OR REPLACE FUNCTION end_sessions_of_organization() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM require_read_committed('An organization is suspended or archived');
    DELETE FROM console_sessions WHERE organization_id = NEW.id;
    UPDATE sessions SET active_membership_id = NULL
    WHERE active_membership_id IN (
        SELECT tenant_memberships.id
        FROM tenant_memberships JOIN tenants ON tenants.id = tenant_memberships.tenant_id
        WHERE tenants.organization_id = NEW.id
    );
    RETURN NULL;
END
$$;
DROP TRIGGER refuse_deletion ON organizations;
DROP FUNCTION refuse_deletion_of_organization();
DROP TRIGGER refuse_writes_of_copy ON console_sessions;
DROP TRIGGER refuse_writes_of_copy ON organization_domains;
DROP TRIGGER refuse_writes_of_copy ON organizations;
DROP FUNCTION refuse_write_of_copy();
