from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("audit", "0011_audit_logs_transaction_index")]
    operations = [
        migrations.AlterModelOptions(
            "auditlog", options={"permissions": [("export_auditlog", "Can export the audit log")]}
        )
    ]
