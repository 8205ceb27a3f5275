from django.db import migrations

from keyhub.migration_operations import ValidateConstraint


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0008_tenant_memberships_keep_an_admin")]
    operations = [ValidateConstraint("tenantmembership", "check_left_reason")]
