from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("audit", "0004_audit_logs_validate_outcome")]
    operations = [RunSQLFile("0005_audit_logs_append_only")]
