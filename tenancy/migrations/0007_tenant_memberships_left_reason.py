from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0006_tenants_validate_checks")]
    operations = [
        migrations.AddField(
            "tenantmembership",
            "left_reason",
            models.TextField(
                blank=True,
                choices=[("left", "Left"), ("removed", "Removed"), ("code_revoked", "Code Revoked")],
                editable=False,
                null=True,
            ),
        ),
    ]
