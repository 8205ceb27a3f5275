from django.contrib.postgres.functions import RandomUUID
from django.db import migrations, models
from django.db.models.functions import Now

from keyhub.foreign_keys import DatabaseForeignKey, OnDelete


class Migration(migrations.Migration):
    dependencies = [("accounts", "0011_operators_validate_role")]
    operations = [
        migrations.AlterModelOptions("operator", {"verbose_name": "operator", "verbose_name_plural": "operators"}),
        migrations.AlterModelOptions(
            "user",
            {
                "permissions": [
                    ("disable_user", "Can disable and enable users"),
                    ("anonymize_user", "Can anonymize users"),
                ],
                "verbose_name": "user",
                "verbose_name_plural": "users",
            },
        ),
        migrations.AlterModelOptions(
            "useridentity", {"verbose_name": "user identity", "verbose_name_plural": "user identities"}
        ),
        migrations.AlterField(
            "operator", "created_at", models.DateTimeField("created at", db_default=Now(), editable=False)
        ),
        migrations.AlterField("operator", "email", models.EmailField("email", max_length=254)),
        migrations.AlterField(
            "operator",
            "is_active",
            models.BooleanField(
                "is active",
                default=True,
                help_text="Switch it off instead of deleting: the operator's log entries stay.",
            ),
        ),
        migrations.AlterField("operator", "name", models.TextField("name", blank=True)),
        migrations.AlterField(
            "operator",
            "role",
            models.TextField(
                "role",
                blank=True,
                choices=[("viewer", "Viewer"), ("support", "Support"), ("admin", "Admin")],
                help_text="What the operator may do, besides what groups and single permissions give.",
                null=True,
            ),
        ),
        migrations.AlterField(
            "user", "anonymized_at", models.DateTimeField("anonymized at", blank=True, editable=False, null=True)
        ),
        migrations.AlterField(
            "user", "created_at", models.DateTimeField("created at", db_default=Now(), editable=False)
        ),
        migrations.AlterField("user", "disabled_at", models.DateTimeField("disabled at", blank=True, null=True)),
        migrations.AlterField("user", "email", models.TextField("email")),
        migrations.AlterField(
            "user",
            "email_verified_at",
            models.DateTimeField(
                "email verified at",
                blank=True,
                editable=False,
                help_text="Emptied by the database when the e-mail changes.",
                null=True,
            ),
        ),
        migrations.AlterField(
            "user", "icon", models.TextField("icon", blank=True, help_text="Address of a picture.", null=True)
        ),
        migrations.AlterField(
            "user",
            "id",
            models.UUIDField("id", db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
        ),
        migrations.AlterField("user", "name", models.TextField("name", blank=True, null=True)),
        migrations.AlterField(
            "user", "updated_at", models.DateTimeField("updated at", db_default=Now(), editable=False)
        ),
        migrations.AlterField(
            "useridentity", "created_at", models.DateTimeField("created at", db_default=Now(), editable=False)
        ),
        migrations.AlterField(
            "useridentity",
            "id",
            models.UUIDField("id", db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
        ),
        migrations.AlterField("useridentity", "provider", models.TextField("provider")),
        migrations.AlterField(
            "useridentity",
            "provider_sub",
            models.TextField("provider sub", help_text="The provider's own, unchanging id of the person."),
        ),
        migrations.AlterField(
            "useridentity", "updated_at", models.DateTimeField("updated at", db_default=Now(), editable=False)
        ),
        migrations.AlterField(
            "useridentity",
            "user",
            DatabaseForeignKey(
                on_delete=OnDelete.CASCADE, related_name="identities", to="accounts.user", verbose_name="user"
            ),
        ),
    ]
