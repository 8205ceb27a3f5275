from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0008_sessions_drop_membership_key")]
    operations = [RunSQLFile("0009_sessions_membership_triggers")]
