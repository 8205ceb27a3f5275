from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("orgs", "0007_organization_checks_not_valid")]
    operations = [RunSQLFile("0008_organization_domains_lower_case")]
