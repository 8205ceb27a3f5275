-- 20240401000001_add_organizations.up.sql

-- Organizations table (将来のマルチDB構成への準備)
CREATE TABLE organizations (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    slug TEXT NOT NULL UNIQUE,
    settings JSONB,
    status TEXT NOT NULL DEFAULT 'active',
    created_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (id)
);

-- Organization Domains
CREATE TABLE organization_domains (
    id UUID NOT NULL DEFAULT uuid_generate_v4(),
    organization_id TEXT NOT NULL,
    domain TEXT NOT NULL UNIQUE,
    is_verified BOOLEAN NOT NULL DEFAULT FALSE,
    verified_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (id),
    FOREIGN KEY (organization_id) REFERENCES organizations(id) ON DELETE CASCADE
);

-- 既存データの移行
INSERT INTO organizations (id, name, slug, status)
VALUES ('ORG-DEFAULT-001', 'Default Organization', 'default', 'active');

-- Tenantsテーブルに外部キー追加
ALTER TABLE tenants
    ADD CONSTRAINT fk_tenants_organization
    FOREIGN KEY (organization_id) REFERENCES organizations(id);
