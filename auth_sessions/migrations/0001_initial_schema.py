from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import migrations, models
from django.db.models.functions import Now

from keyhub.foreign_keys import DatabaseForeignKey, OnDelete


class Migration(migrations.Migration):
    initial = True
    dependencies = [
        ("accounts", "0001_initial_schema"),
        ("tenancy", "0001_initial_schema"),
    ]
    operations = [
        migrations.CreateModel(
            name="Session",
            fields=[
                (
                    "id",
                    models.UUIDField(db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
                ),
                ("session_id", models.TextField()),
                (
                    "user",
                    DatabaseForeignKey(on_delete=OnDelete.CASCADE, related_name="sessions", to="accounts.user"),
                ),
                (
                    "active_membership",
                    DatabaseForeignKey(
                        blank=True,
                        null=True,
                        on_delete=OnDelete.SET_NULL,
                        related_name="sessions",
                        to="tenancy.tenantmembership",
                    ),
                ),
                ("revoked", models.BooleanField(db_default=False)),
                ("expires_at", models.DateTimeField()),
                ("last_accessed_at", models.DateTimeField(blank=True, null=True)),
                ("ip_address", models.GenericIPAddressField(blank=True, null=True)),
                ("user_agent", models.TextField(blank=True, null=True)),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "db_table": "sessions",
                "indexes": [
                    BTreeIndex(fields=["user"], name="idx_sessions_user_id"),
                    BTreeIndex(fields=["expires_at"], name="idx_sessions_expires_at"),
                    BTreeIndex(
                        condition=models.Q(("revoked", False)),
                        fields=["expires_at"],
                        name="idx_sessions_revoked_expires",
                    ),
                    BTreeIndex(fields=["active_membership"], name="idx_sessions_active_membership"),
                ],
                "constraints": [models.UniqueConstraint(fields=("session_id",), name="idx_sessions_session_id")],
            },
        ),
        migrations.CreateModel(
            name="OAuthState",
            fields=[
                (
                    "id",
                    models.UUIDField(db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
                ),
                ("state", models.TextField()),
                ("code_verifier", models.TextField()),
                ("nonce", models.TextField()),
                ("redirect_uri", models.TextField(blank=True, null=True)),
                ("consumed_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "verbose_name": "OAuth state",
                "db_table": "oauth_states",
                "indexes": [
                    BTreeIndex(fields=["created_at"], name="idx_oauth_states_created_at"),
                    BTreeIndex(
                        condition=models.Q(("consumed_at__isnull", True)),
                        fields=["created_at"],
                        name="idx_oauth_states_consumed",
                    ),
                ],
                "constraints": [models.UniqueConstraint(fields=("state",), name="idx_oauth_states_state")],
            },
        ),
        migrations.CreateModel(
            name="ConsoleSession",
            fields=[
                (
                    "id",
                    models.UUIDField(db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
                ),
                ("session_id", models.TextField()),
                ("organization_id", models.TextField()),
                ("expires_at", models.DateTimeField()),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "db_table": "console_sessions",
                "indexes": [
                    BTreeIndex(fields=["expires_at"], name="idx_console_sessions_expires_at"),
                    BTreeIndex(fields=["organization_id", "expires_at"], name="idx_console_sessions_active"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("session_id",), name="idx_console_sessions_session_id")
                ],
            },
        ),
    ]
