from django.db import migrations

from keyhub.migration_operations import RunSQLFile, ValidateConstraint


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0017_group_memberships_tenant_key_not_valid")]
    operations = [
        ValidateConstraint("groupmembership", "check_group_membership_tenant"),
        RunSQLFile("0018_group_memberships_validate_tenant_key"),
    ]
