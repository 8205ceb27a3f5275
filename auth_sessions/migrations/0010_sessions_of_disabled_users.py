from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("auth_sessions", "0009_sessions_membership_triggers"),
        ("accounts", "0002_users_disabled"),
    ]
    operations = [RunSQLFile("0010_sessions_of_disabled_users")]
