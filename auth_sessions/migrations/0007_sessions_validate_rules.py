from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0006_sessions_rules_not_valid")]
    operations = [RunSQLFile("0007_sessions_validate_rules")]
