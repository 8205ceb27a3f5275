from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("orgs", "0003_organization_keys_not_valid")]
    operations = [RunSQLFile("0004_fill_late_organizations")]
