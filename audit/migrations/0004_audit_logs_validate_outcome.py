from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("audit", "0003_audit_logs_outcome_not_valid")]
    operations = [RunSQLFile("0004_audit_logs_validate_outcome")]
