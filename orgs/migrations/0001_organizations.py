from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import migrations, models
from django.db.models.functions import Lower, Now
from django.db.models.lookups import Exact

from keyhub.foreign_keys import DatabaseForeignKey, OnDelete
from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    initial = True
    dependencies = [("keyhub", "0001_updated_at_function")]
    operations = [
        RunSQLFile(
            "0001_organizations",
            state_operations=[
                migrations.CreateModel(
                    name="Organization",
                    fields=[
                        ("id", models.TextField(primary_key=True, serialize=False)),
                        ("name", models.TextField()),
                        ("slug", models.TextField()),
                        ("settings", models.JSONField(blank=True, null=True)),
                        (
                            "status",
                            models.TextField(
                                choices=[
                                    ("active", "Active"),
                                    ("suspended", "Suspended"),
                                    ("archived", "Archived"),
                                ],
                                db_default="active",
                            ),
                        ),
                        ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
                        ("updated_at", models.DateTimeField(db_default=Now(), editable=False)),
                    ],
                    options={
                        "db_table": "organizations",
                        "constraints": [
                            models.UniqueConstraint(fields=("slug",), name="organizations_slug_key"),
                            models.CheckConstraint(
                                condition=models.Q(("id", ""), _negated=True), name="check_organization_id"
                            ),
                            models.CheckConstraint(
                                condition=models.Q(("status__in", ["active", "suspended", "archived"])),
                                name="check_organization_status",
                            ),
                            models.CheckConstraint(
                                condition=Exact(
                                    models.Func(
                                        models.F("settings"),
                                        function="jsonb_typeof",
                                        output_field=models.TextField(),
                                    ),
                                    models.Value("object"),
                                ),
                                name="check_organization_settings",
                                violation_error_message="Settings are a JSON object.",
                            ),
                        ],
                    },
                )
            ],
        ),
        migrations.CreateModel(
            name="OrganizationDomain",
            fields=[
                (
                    "id",
                    models.UUIDField(db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
                ),
                (
                    "organization",
                    DatabaseForeignKey(on_delete=OnDelete.CASCADE, related_name="domains", to="orgs.organization"),
                ),
                ("domain", models.TextField()),
                ("is_verified", models.BooleanField(db_default=False)),
                ("verified_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "db_table": "organization_domains",
                "indexes": [BTreeIndex(fields=["organization"], name="idx_organization_domains_org_id")],
                "constraints": [
                    models.UniqueConstraint(
                        Lower("domain"),
                        condition=models.Q(("is_verified", True)),
                        name="organization_domains_domain_key",
                        violation_error_message="The domain is verified for another organization.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("is_verified", models.Q(("verified_at__isnull", False)))),
                        name="check_is_verified",
                    ),
                ],
            },
        ),
    ]
