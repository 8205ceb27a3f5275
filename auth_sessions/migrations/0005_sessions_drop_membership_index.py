from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("auth_sessions", "0004_sessions_swap_membership_indexes")]
    operations = [RunSQLFile("0005_sessions_drop_membership_index")]
