from django.contrib.postgres.functions import RandomUUID
from django.db import migrations, models
from django.db.models.functions import Now

from keyhub.foreign_keys import DatabaseForeignKey, OnDelete


class Migration(migrations.Migration):
    dependencies = [("orgs", "0011_sessions_of_active_organizations")]
    operations = [
        migrations.AlterModelOptions(
            "organization", {"verbose_name": "organization", "verbose_name_plural": "organizations"}
        ),
        migrations.AlterModelOptions(
            "organizationdomain", {"verbose_name": "organization domain", "verbose_name_plural": "organization domains"}
        ),
        migrations.AlterField(
            "organization", "created_at", models.DateTimeField("created at", db_default=Now(), editable=False)
        ),
        migrations.AlterField("organization", "id", models.TextField("id", primary_key=True, serialize=False)),
        migrations.AlterField("organization", "name", models.TextField("name")),
        migrations.AlterField("organization", "settings", models.JSONField("settings", blank=True, null=True)),
        migrations.AlterField("organization", "slug", models.TextField("slug")),
        migrations.AlterField(
            "organization",
            "status",
            models.TextField(
                "status",
                choices=[("active", "Active"), ("suspended", "Suspended"), ("archived", "Archived")],
                db_default="active",
            ),
        ),
        migrations.AlterField(
            "organization", "updated_at", models.DateTimeField("updated at", db_default=Now(), editable=False)
        ),
        migrations.AlterField(
            "organizationdomain", "created_at", models.DateTimeField("created at", db_default=Now(), editable=False)
        ),
        migrations.AlterField("organizationdomain", "domain", models.TextField("domain")),
        migrations.AlterField(
            "organizationdomain", "failed_checks", models.IntegerField("failed checks", db_default=0, editable=False)
        ),
        migrations.AlterField(
            "organizationdomain",
            "id",
            models.UUIDField("id", db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
        ),
        migrations.AlterField(
            "organizationdomain", "is_verified", models.BooleanField("is verified", db_default=False)
        ),
        migrations.AlterField(
            "organizationdomain",
            "last_checked_at",
            models.DateTimeField("last checked at", blank=True, editable=False, null=True),
        ),
        migrations.AlterField(
            "organizationdomain",
            "organization",
            DatabaseForeignKey(
                on_delete=OnDelete.CASCADE, related_name="domains", to="orgs.organization", verbose_name="organization"
            ),
        ),
        migrations.AlterField(
            "organizationdomain",
            "verification_token",
            models.TextField("verification token", blank=True, editable=False, null=True),
        ),
        migrations.AlterField(
            "organizationdomain", "verified_at", models.DateTimeField("verified at", blank=True, null=True)
        ),
    ]
