from django.db import migrations

from keyhub.migration_operations import ValidateConstraint


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0005_tenants_checks_not_valid")]
    operations = [
        ValidateConstraint("tenant", "check_tenant_slug"),
        ValidateConstraint("tenant", "check_tenant_name"),
        ValidateConstraint("group", "check_group_name"),
    ]
