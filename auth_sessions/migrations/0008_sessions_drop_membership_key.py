from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0007_sessions_validate_rules")]
    operations = [RunSQLFile("0008_sessions_drop_membership_key")]
