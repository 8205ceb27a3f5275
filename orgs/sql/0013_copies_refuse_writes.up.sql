-- For an Admin database of its own (docs/operations/splitadmin.md), in which these tables are written, and of which the
-- tenant database has a copy. The triggers sleep; splitadmin wakes them in the database that is not to be written to.
-- What arrives by replication passes them. A session that knows better says SET LOCAL keyhub.writes_copies = on. Where
-- no database was ever split off, they let everything pass: pg_restore --disable-triggers wakes what it finds asleep.
CREATE FUNCTION refuse_write_of_copy() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('keyhub.writes_copies', true), '') <> 'on'
       AND to_regclass(format('%I.keyhub_split', TG_TABLE_SCHEMA)) IS NOT NULL THEN
        RAISE SQLSTATE 'KH001' USING
            TABLE = TG_TABLE_NAME,
            MESSAGE = format('%s is written in the other database, and this one has a copy.', TG_TABLE_NAME),
            HINT = 'KeyHub''s Admin database is named by ADMIN_DATABASE_URL.';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER refuse_writes_of_copy BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON organizations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_write_of_copy();
ALTER TABLE organizations DISABLE TRIGGER refuse_writes_of_copy;
CREATE TRIGGER refuse_writes_of_copy BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON organization_domains
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_write_of_copy();
ALTER TABLE organization_domains DISABLE TRIGGER refuse_writes_of_copy;
CREATE TRIGGER refuse_writes_of_copy BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON console_sessions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_write_of_copy();
ALTER TABLE console_sessions DISABLE TRIGGER refuse_writes_of_copy;

-- The keys of tenants stand in the tenant database, and are asked there first (orgs.organizations).
CREATE FUNCTION refuse_deletion_of_organization() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('keyhub.writes_copies', true), '') <> 'on'
       AND to_regclass(format('%I.keyhub_split', TG_TABLE_SCHEMA)) IS NOT NULL THEN
        RAISE restrict_violation USING
            TABLE = TG_TABLE_NAME,
            MESSAGE = 'An organization is deleted in the tenant database first, whose keys know its tenants.',
            HINT = 'Delete it by Organization.delete(), or see docs/operations/splitadmin.md.';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER refuse_deletion BEFORE DELETE OR TRUNCATE ON organizations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_deletion_of_organization();
ALTER TABLE organizations DISABLE TRIGGER refuse_deletion;

-- Each database ends what sessions it has, also where the change arrives by replication.
CREATE OR REPLACE FUNCTION end_sessions_of_organization() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF to_regclass('organizations') IS NULL THEN  -- a worker of replication has an empty search_path
        PERFORM set_config('search_path', quote_ident(TG_TABLE_SCHEMA), true);
    END IF;
    PERFORM require_read_committed('An organization is suspended or archived');
    DELETE FROM console_sessions WHERE organization_id = NEW.id;
    IF to_regclass('sessions') IS NOT NULL THEN
        UPDATE sessions SET active_membership_id = NULL
        WHERE active_membership_id IN (
            SELECT tenant_memberships.id
            FROM tenant_memberships JOIN tenants ON tenants.id = tenant_memberships.tenant_id
            WHERE tenants.organization_id = NEW.id
        );
    END IF;
    RETURN NULL;
END
$$;
ALTER TABLE organizations ENABLE ALWAYS TRIGGER end_sessions_of_organizations;
