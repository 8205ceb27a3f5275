from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import migrations, models
from django.db.models import F
from django.db.models.functions import Now

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        RunSQLFile(
            "0001_audit_logs",
            state_operations=[
                migrations.CreateModel(
                    name="AuditLog",
                    fields=[
                        (
                            "id",
                            models.UUIDField(
                                db_default=RandomUUID(), editable=False, primary_key=True, serialize=False
                            ),
                        ),
                        ("organization_id", models.TextField()),
                        ("tenant_id", models.UUIDField(blank=True, null=True)),
                        ("tenant_label", models.TextField(blank=True, null=True)),
                        ("user_id", models.UUIDField(blank=True, null=True)),
                        ("actor_label", models.TextField(blank=True, null=True)),
                        ("action", models.TextField()),
                        ("resource_type", models.TextField()),
                        ("resource_id", models.TextField(blank=True, null=True)),
                        ("details", models.JSONField(blank=True, null=True)),
                        ("ip_address", models.GenericIPAddressField(blank=True, null=True)),
                        ("user_agent", models.TextField(blank=True, null=True)),
                        ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
                    ],
                    options={
                        "db_table": "audit_logs",
                        "indexes": [
                            BTreeIndex("organization_id", F("created_at").desc(), name="idx_audit_logs_organization"),
                            BTreeIndex("tenant_id", F("created_at").desc(), name="idx_audit_logs_tenant"),
                            BTreeIndex("user_id", F("created_at").desc(), name="idx_audit_logs_user"),
                            BTreeIndex("action", F("created_at").desc(), name="idx_audit_logs_action"),
                            BTreeIndex("resource_type", "resource_id", name="idx_audit_logs_resource"),
                            BTreeIndex(F("created_at").desc(), F("id").desc(), name="idx_audit_logs_created_at"),
                        ],
                    },
                )
            ],
        )
    ]
