from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_users_checks_not_valid")]
    operations = [RunSQLFile("0007_users_validate_checks")]
