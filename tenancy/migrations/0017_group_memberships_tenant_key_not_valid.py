from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0016_group_memberships_build_tenant_index")]
    operations = [
        AddConstraintNotValid(
            "groupmembership",
            models.CheckConstraint(condition=models.Q(tenant_id__isnull=False), name="check_group_membership_tenant"),
        ),
        RunSQLFile("0017_group_memberships_tenant_key_not_valid"),
    ]
