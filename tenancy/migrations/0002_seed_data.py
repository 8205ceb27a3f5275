from django.conf import settings
from django.db import migrations

DEFAULT_TENANT = """
    INSERT INTO tenants (id, organization_id, name, slug, description, tenant_type, is_default)
    VALUES ('f47ac10b-58cc-4372-a567-0e02b2c3d479', 'ORG-DEFAULT-001', 'Default Team', 'default',
            'デフォルトのチームです', 'team', true)
    ON CONFLICT DO NOTHING
"""
# Whoever knows this code can enter the default tenant, so it is for demonstrations only.
DEMO_JOIN_CODE = """
    INSERT INTO tenant_join_codes (tenant_id, code, expires_at, max_uses, role)
    SELECT id, 'KH-DEMO-001', statement_timestamp() + interval '30 days', 100, 'member'
    FROM tenants WHERE id = 'f47ac10b-58cc-4372-a567-0e02b2c3d479'
    ON CONFLICT DO NOTHING
"""
# The way back takes only what nobody has used since: a tenant with people in it is no longer seed data.
REMOVE_DEMO_JOIN_CODE = "DELETE FROM tenant_join_codes WHERE code = 'KH-DEMO-001' AND used_count = 0"
REMOVE_DEFAULT_TENANT = """
    DELETE FROM tenants
    WHERE id = 'f47ac10b-58cc-4372-a567-0e02b2c3d479'
      AND NOT EXISTS (SELECT FROM tenant_memberships WHERE tenant_id = tenants.id)
      AND NOT EXISTS (SELECT FROM tenant_join_codes WHERE tenant_id = tenants.id)
"""


def insert(apps, schema_editor):
    schema_editor.execute(DEFAULT_TENANT)
    if settings.DEMO_DATA:
        schema_editor.execute(DEMO_JOIN_CODE)


def remove(apps, schema_editor):
    schema_editor.execute(REMOVE_DEMO_JOIN_CODE)
    schema_editor.execute(REMOVE_DEFAULT_TENANT)


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0001_initial_schema")]
    operations = [migrations.RunPython(insert, remove)]
