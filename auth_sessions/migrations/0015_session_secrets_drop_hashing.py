from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0014_validate_session_secrets")]
    operations = [RunSQLFile("0015_session_secrets_drop_hashing")]
