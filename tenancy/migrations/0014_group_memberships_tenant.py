from django.db import migrations, models

from keyhub.migration_operations import RefuseRows, RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0013_tenant_join_codes_validate_code")]
    operations = [
        RefuseRows(
            "group_memberships",
            "group_memberships_tenant_id_user_id_fkey",
            "NOT EXISTS (SELECT FROM groups JOIN tenant_memberships USING (tenant_id) WHERE groups.id = group_id "
            "AND tenant_memberships.user_id = group_memberships.user_id AND left_at IS NULL)",
            columns="id, group_id, user_id",
        ),
        migrations.AddField("groupmembership", "tenant_id", models.UUIDField(editable=False, null=True)),
        RunSQLFile("0014_group_memberships_tenant"),
    ]
