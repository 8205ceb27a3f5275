from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("orgs", "0004_fill_late_organizations")]
    operations = [RunSQLFile("0005_validate_organization_keys")]
