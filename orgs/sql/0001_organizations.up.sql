-- Not by CreateModel: on a text primary key Django adds a second index, for LIKE.
CREATE TABLE organizations (
    id text NOT NULL,
    name text NOT NULL,
    slug text NOT NULL,
    settings jsonb,
    status text NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (id),
    CONSTRAINT organizations_slug_key UNIQUE (slug),
    CONSTRAINT check_organization_id CHECK (id <> ''),
    CONSTRAINT check_organization_settings CHECK (jsonb_typeof(settings) = 'object'),
    CONSTRAINT check_organization_status CHECK (status IN ('active', 'suspended', 'archived'))
);

CREATE TRIGGER update_organizations_updated_at
    BEFORE UPDATE ON organizations
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
    EXECUTE FUNCTION update_updated_at_column();
