from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0018_group_memberships_validate_tenant_key")]
    operations = [
        migrations.AlterModelOptions(
            "tenantjoincode", options={"permissions": [("revoke_tenantjoincode", "Can revoke tenant join codes")]}
        )
    ]
