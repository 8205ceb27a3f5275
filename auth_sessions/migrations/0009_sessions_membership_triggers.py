from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("auth_sessions", "0008_sessions_drop_membership_key"),
        ("tenancy", "0007_tenant_memberships_left_reason"),
    ]
    operations = [RunSQLFile("0009_sessions_membership_triggers")]
