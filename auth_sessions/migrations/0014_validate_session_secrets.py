from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0013_hash_session_secrets")]
    operations = [RunSQLFile("0014_validate_session_secrets")]
