from django.db import migrations, models

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("tenancy", "0003_groups")]
    operations = [
        # A unique index is enough for keys that refer to it; as a constraint it could not go down again online.
        RunSQLFile(
            "0004_tenant_memberships_user_key",
            state_operations=[
                migrations.AddConstraint(
                    "tenantmembership",
                    models.UniqueConstraint(fields=["id", "user"], name="tenant_memberships_id_user_id_key"),
                )
            ],
        )
    ]
