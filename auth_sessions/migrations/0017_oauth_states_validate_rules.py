from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0016_oauth_states_rules_not_valid")]
    operations = [RunSQLFile("0017_oauth_states_validate_rules")]
