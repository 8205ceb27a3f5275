from django.db import migrations, models
from django.db.models import Q
from django.db.models.functions import Now

from keyhub.migration_operations import RunSQLFile

SHA_256 = "^[0-9a-f]{64}$"


class Migration(migrations.Migration):
    dependencies = [("audit", "0005_audit_logs_append_only")]
    operations = [
        migrations.CreateModel(
            name="AuditSeal",
            fields=[
                ("number", models.IntegerField(primary_key=True, serialize=False)),
                ("month", models.DateField()),
                ("rows", models.BigIntegerField()),
                ("digest", models.TextField(help_text="SHA-256 of the month's rows without the names.")),
                ("previous", models.TextField(help_text="SHA-256 of the seal before; zeros in the first.")),
                ("signature", models.TextField()),
                ("names_digest", models.TextField(help_text="SHA-256 of the month's names.")),
                ("names_signature", models.TextField()),
                ("sealed_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "db_table": "audit_seals",
                "constraints": [
                    models.UniqueConstraint(fields=["month"], name="audit_seals_month_key"),
                    models.CheckConstraint(condition=Q(number__gt=0), name="check_audit_seal_number"),
                    models.CheckConstraint(condition=Q(month__day=1), name="check_audit_seal_month"),
                    models.CheckConstraint(condition=Q(rows__gte=0), name="check_audit_seal_rows"),
                    models.CheckConstraint(
                        condition=Q(digest__regex=SHA_256, previous__regex=SHA_256, names_digest__regex=SHA_256),
                        name="check_audit_seal_digests",
                    ),
                ],
            },
        ),
        RunSQLFile("0006_audit_seals"),
    ]
