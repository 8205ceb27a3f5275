from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0007_tenant_memberships_left_reason")]
    operations = [
        AddConstraintNotValid(
            "tenantmembership",
            models.CheckConstraint(
                condition=models.Q(left_reason__isnull=True)
                | models.Q(left_at__isnull=False, left_reason__in=["left", "removed", "code_revoked"]),
                name="check_left_reason",
            ),
        ),
        RunSQLFile("0008_tenant_memberships_keep_an_admin"),
    ]
