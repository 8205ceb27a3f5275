from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    # Built CONCURRENTLY, and given its name by the next one.
    atomic = False
    dependencies = [("auth_sessions", "0002_sessions_revoked_at")]
    operations = [RunSQLFile("0003_sessions_membership_user_index")]
