from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("orgs", "0002_fill_organizations")]
    operations = [RunSQLFile("0003_organization_keys_not_valid")]
