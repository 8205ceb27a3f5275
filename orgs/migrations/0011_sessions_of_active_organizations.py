from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("orgs", "0010_organization_domains_once"),
        ("auth_sessions", "0001_initial_schema"),
        ("tenancy", "0001_initial_schema"),
    ]
    operations = [RunSQLFile("0011_sessions_of_active_organizations")]
