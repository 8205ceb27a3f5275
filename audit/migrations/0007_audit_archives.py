from django.db import migrations, models
from django.db.models import Q
from django.db.models.functions import Now

from keyhub.migration_operations import RunSQLFile

SHA_256 = "^[0-9a-f]{64}$"


class Migration(migrations.Migration):
    dependencies = [("audit", "0006_audit_seals")]
    operations = [
        migrations.CreateModel(
            name="AuditArchive",
            fields=[
                ("month", models.DateField(primary_key=True, serialize=False)),
                ("folder", models.TextField(help_text="Below the URL of the store.")),
                ("rows_bytes", models.BigIntegerField()),
                ("rows_sha256", models.TextField()),
                ("names_file", models.TextField()),
                ("names_bytes", models.BigIntegerField()),
                ("names_sha256", models.TextField()),
                ("archived_at", models.DateTimeField(db_default=Now(), editable=False)),
                ("detached_at", models.DateTimeField(blank=True, null=True)),
                ("dropped_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "db_table": "audit_archives",
                "constraints": [
                    models.CheckConstraint(
                        condition=Q(rows_bytes__gt=0, names_bytes__gt=0), name="check_audit_archive_bytes"
                    ),
                    models.CheckConstraint(
                        condition=Q(rows_sha256__regex=SHA_256, names_sha256__regex=SHA_256),
                        name="check_audit_archive_digests",
                    ),
                    models.CheckConstraint(
                        condition=Q(dropped_at__isnull=True) | Q(detached_at__isnull=False),
                        name="check_audit_archive_dropped",
                    ),
                ],
            },
        ),
        RunSQLFile("0007_audit_archives"),
    ]
