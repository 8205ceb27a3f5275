from django.db import migrations

from keyhub.migration_operations import ValidateConstraint


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0012_tenant_join_codes_swap_indexes")]
    operations = [ValidateConstraint("tenantjoincode", "check_join_code")]
