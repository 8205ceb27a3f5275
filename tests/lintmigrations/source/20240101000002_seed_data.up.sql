-- 20240101000002_seed_data.up.sql

-- デフォルトTenant作成
INSERT INTO tenants (
    id,
    organization_id,
    name,
    slug,
    description,
    tenant_type,
    is_default
) VALUES (
    'f47ac10b-58cc-4372-a567-0e02b2c3d479',
    'ORG-DEFAULT-001',
    'Default Team',
    'default',
    'デフォルトのチームです',
    'team',
    true
);

-- サンプル参加コード
INSERT INTO tenant_join_codes (
    tenant_id,
    code,
    expires_at,
    max_uses,
    role
) VALUES (
    'f47ac10b-58cc-4372-a567-0e02b2c3d479',
    'KH-DEMO-001',
    CURRENT_TIMESTAMP + INTERVAL '30 days',
    100,
    'member'
);
