from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import migrations, models
from django.db.models.functions import Lower, Now

from keyhub.foreign_keys import DatabaseForeignKey, OnDelete
from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    initial = True
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("keyhub", "0001_updated_at_function"),
    ]
    operations = [
        migrations.CreateModel(
            name="User",
            fields=[
                (
                    "id",
                    models.UUIDField(db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
                ),
                ("email", models.TextField()),
                ("name", models.TextField(blank=True, null=True)),
                ("icon", models.TextField(blank=True, help_text="Address of a picture.", null=True)),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
                ("updated_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "db_table": "users",
                "indexes": [BTreeIndex(models.F("created_at").desc(), name="idx_users_created_at")],
                "constraints": [models.UniqueConstraint(fields=("email",), name="idx_users_email")],
            },
        ),
        migrations.CreateModel(
            name="UserIdentity",
            fields=[
                (
                    "id",
                    models.UUIDField(db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
                ),
                (
                    "user",
                    DatabaseForeignKey(on_delete=OnDelete.CASCADE, related_name="identities", to="accounts.user"),
                ),
                ("provider", models.TextField()),
                (
                    "provider_sub",
                    models.TextField(help_text="The provider's own, unchanging id of the person."),
                ),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
                ("updated_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "db_table": "user_identities",
                "verbose_name_plural": "user identities",
                "indexes": [BTreeIndex(fields=["user"], name="idx_user_identities_user_id")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("provider", "provider_sub"),
                        name="idx_user_identities_provider_sub",
                        violation_error_message="This outside identity already belongs to a user.",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Operator",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("password", models.CharField(max_length=128, verbose_name="password")),
                ("last_login", models.DateTimeField(blank=True, null=True, verbose_name="last login")),
                (
                    "is_superuser",
                    models.BooleanField(
                        default=False,
                        help_text="Designates that this user has all permissions without explicitly assigning them.",
                        verbose_name="superuser status",
                    ),
                ),
                ("email", models.EmailField(max_length=254)),
                ("name", models.TextField(blank=True)),
                (
                    "is_active",
                    models.BooleanField(
                        default=True,
                        help_text="Switch it off instead of deleting: the operator's log entries stay.",
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
                (
                    "groups",
                    models.ManyToManyField(
                        blank=True,
                        help_text=(
                            "The groups this user belongs to. A user will get all permissions granted to each of "
                            "their groups."
                        ),
                        related_name="user_set",
                        related_query_name="user",
                        to="auth.group",
                        verbose_name="groups",
                    ),
                ),
                (
                    "user_permissions",
                    models.ManyToManyField(
                        blank=True,
                        help_text="Specific permissions for this user.",
                        related_name="user_set",
                        related_query_name="user",
                        to="auth.permission",
                        verbose_name="user permissions",
                    ),
                ),
            ],
            options={
                "db_table": "operators",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("email",),
                        name="operators_email_key",
                        violation_error_message="There is already an operator with this e-mail.",
                    ),
                    models.CheckConstraint(condition=models.Q(("email", Lower("email"))), name="check_operator_email"),
                ],
            },
        ),
        RunSQLFile("0001_initial_schema"),
    ]
