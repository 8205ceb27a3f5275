from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_audit_logs")]
    operations = [
        migrations.AddField(
            "auditlog",
            "outcome",
            models.TextField(
                blank=True,
                choices=[("success", "Success"), ("failure", "Failure"), ("denied", "Denied")],
                null=True,
            ),
        ),
        migrations.AddField("auditlog", "request_id", models.TextField(blank=True, null=True)),
    ]
