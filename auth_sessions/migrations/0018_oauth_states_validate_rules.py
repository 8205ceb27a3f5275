from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0017_oauth_states_rules_not_valid")]
    operations = [RunSQLFile("0018_oauth_states_validate_rules")]
