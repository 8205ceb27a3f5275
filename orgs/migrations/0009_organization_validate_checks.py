from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("orgs", "0008_organization_domains_lower_case")]
    operations = [RunSQLFile("0009_organization_validate_checks")]
