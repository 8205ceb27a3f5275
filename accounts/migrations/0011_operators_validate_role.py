from django.db import migrations

from keyhub.migration_operations import ValidateConstraint


class Migration(migrations.Migration):
    dependencies = [("accounts", "0010_operators_role_not_valid")]
    operations = [ValidateConstraint("operator", "check_operator_role")]
