from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("orgs", "0001_organizations"),
        ("audit", "0001_audit_logs"),
        ("auth_sessions", "0001_initial_schema"),
        ("tenancy", "0002_seed_data"),
    ]
    operations = [RunSQLFile("0002_fill_organizations")]
