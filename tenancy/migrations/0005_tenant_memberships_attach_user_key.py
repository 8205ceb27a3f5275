from django.db import migrations, models

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0004_tenant_memberships_user_key")]
    operations = [
        RunSQLFile(
            "0005_tenant_memberships_attach_user_key",
            state_operations=[
                migrations.AddConstraint(
                    "tenantmembership",
                    models.UniqueConstraint(fields=["id", "user"], name="tenant_memberships_id_user_id_key"),
                )
            ],
        )
    ]
