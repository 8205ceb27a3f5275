from django.contrib.postgres.functions import RandomUUID
from django.db import migrations, models
from django.db.models.functions import Now

from keyhub.transaction_ids import CurrentTransactionId, TransactionIdField


class Migration(migrations.Migration):
    dependencies = [("audit", "0012_audit_logs_permissions")]
    operations = [
        migrations.AlterModelOptions(
            "auditarchive", {"verbose_name": "audit archive", "verbose_name_plural": "audit archives"}
        ),
        migrations.AlterModelOptions(
            "auditlog",
            {
                "permissions": [("export_auditlog", "Can export the audit log")],
                "verbose_name": "audit log",
                "verbose_name_plural": "audit logs",
            },
        ),
        migrations.AlterModelOptions("auditseal", {"verbose_name": "audit seal", "verbose_name_plural": "audit seals"}),
        migrations.AlterField(
            "auditarchive", "archived_at", models.DateTimeField("archived at", db_default=Now(), editable=False)
        ),
        migrations.AlterField(
            "auditarchive", "detached_at", models.DateTimeField("detached at", blank=True, null=True)
        ),
        migrations.AlterField("auditarchive", "dropped_at", models.DateTimeField("dropped at", blank=True, null=True)),
        migrations.AlterField(
            "auditarchive", "folder", models.TextField("folder", help_text="Below the URL of the store.")
        ),
        migrations.AlterField("auditarchive", "month", models.DateField("month", primary_key=True, serialize=False)),
        migrations.AlterField("auditarchive", "names_bytes", models.BigIntegerField("names bytes")),
        migrations.AlterField("auditarchive", "names_file", models.TextField("names file")),
        migrations.AlterField("auditarchive", "names_sha256", models.TextField("names sha256")),
        migrations.AlterField("auditarchive", "rows_bytes", models.BigIntegerField("rows bytes")),
        migrations.AlterField("auditarchive", "rows_sha256", models.TextField("rows sha256")),
        migrations.AlterField("auditlog", "action", models.TextField("action")),
        migrations.AlterField("auditlog", "actor_label", models.TextField("actor label", blank=True, null=True)),
        migrations.AlterField(
            "auditlog", "created_at", models.DateTimeField("created at", db_default=Now(), editable=False)
        ),
        migrations.AlterField("auditlog", "details", models.JSONField("details", blank=True, null=True)),
        migrations.AlterField(
            "auditlog",
            "id",
            models.UUIDField("id", db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
        ),
        migrations.AlterField(
            "auditlog", "ip_address", models.GenericIPAddressField("ip address", blank=True, null=True)
        ),
        migrations.AlterField("auditlog", "organization_id", models.TextField("organization id")),
        migrations.AlterField(
            "auditlog",
            "outcome",
            models.TextField(
                "outcome",
                blank=True,
                choices=[("success", "Success"), ("failure", "Failure"), ("denied", "Denied")],
                null=True,
            ),
        ),
        migrations.AlterField("auditlog", "request_id", models.TextField("request id", blank=True, null=True)),
        migrations.AlterField("auditlog", "resource_id", models.TextField("resource id", blank=True, null=True)),
        migrations.AlterField("auditlog", "resource_type", models.TextField("resource type")),
        migrations.AlterField("auditlog", "tenant_id", models.UUIDField("tenant id", blank=True, null=True)),
        migrations.AlterField("auditlog", "tenant_label", models.TextField("tenant label", blank=True, null=True)),
        migrations.AlterField(
            "auditlog",
            "transaction_id",
            TransactionIdField("transaction id", db_default=CurrentTransactionId(), editable=False, null=True),
        ),
        migrations.AlterField("auditlog", "user_agent", models.TextField("user agent", blank=True, null=True)),
        migrations.AlterField("auditlog", "user_id", models.UUIDField("user id", blank=True, null=True)),
        migrations.AlterField(
            "auditseal",
            "digest",
            models.TextField("digest", help_text="SHA-256 of the month's rows without the names."),
        ),
        migrations.AlterField("auditseal", "month", models.DateField("month")),
        migrations.AlterField(
            "auditseal", "names_digest", models.TextField("names digest", help_text="SHA-256 of the month's names.")
        ),
        migrations.AlterField("auditseal", "names_signature", models.TextField("names signature")),
        migrations.AlterField("auditseal", "number", models.IntegerField("number", primary_key=True, serialize=False)),
        migrations.AlterField(
            "auditseal",
            "previous",
            models.TextField("previous", help_text="SHA-256 of the seal before; zeros in the first."),
        ),
        migrations.AlterField("auditseal", "rows", models.BigIntegerField("rows")),
        migrations.AlterField(
            "auditseal", "sealed_at", models.DateTimeField("sealed at", db_default=Now(), editable=False)
        ),
        migrations.AlterField("auditseal", "signature", models.TextField("signature")),
    ]
