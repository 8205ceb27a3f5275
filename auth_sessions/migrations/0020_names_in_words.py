from django.contrib.postgres.functions import RandomUUID
from django.db import migrations, models
from django.db.models.functions import Now

from keyhub.foreign_keys import DatabaseForeignKey, OnDelete


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0012_names_in_words"),
        ("auth_sessions", "0019_sessions_permissions"),
        ("tenancy", "0021_names_in_words"),
    ]
    operations = [
        migrations.AlterModelOptions(
            "consolesession",
            {
                "permissions": [("revoke_consolesession", "Can revoke console sessions")],
                "verbose_name": "console session",
                "verbose_name_plural": "console sessions",
            },
        ),
        migrations.AlterModelOptions(
            "oauthstate", {"verbose_name": "OAuth state", "verbose_name_plural": "OAuth states"}
        ),
        migrations.AlterModelOptions(
            "session",
            {
                "permissions": [("revoke_session", "Can revoke sessions")],
                "verbose_name": "session",
                "verbose_name_plural": "sessions",
            },
        ),
        migrations.AlterField(
            "consolesession", "created_at", models.DateTimeField("created at", db_default=Now(), editable=False)
        ),
        migrations.AlterField("consolesession", "expires_at", models.DateTimeField("expires at")),
        migrations.AlterField(
            "consolesession",
            "id",
            models.UUIDField("id", db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
        ),
        migrations.AlterField("consolesession", "organization_id", models.TextField("organization id")),
        migrations.AlterField("consolesession", "session_id", models.TextField("session id")),
        migrations.AlterField(
            "oauthstate", "browser_digest", models.TextField("browser digest", blank=True, editable=False, null=True)
        ),
        migrations.AlterField("oauthstate", "code_verifier", models.TextField("code verifier")),
        migrations.AlterField("oauthstate", "consumed_at", models.DateTimeField("consumed at", blank=True, null=True)),
        migrations.AlterField(
            "oauthstate", "created_at", models.DateTimeField("created at", db_default=Now(), editable=False)
        ),
        migrations.AlterField(
            "oauthstate",
            "id",
            models.UUIDField("id", db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
        ),
        migrations.AlterField("oauthstate", "nonce", models.TextField("nonce")),
        migrations.AlterField("oauthstate", "provider", models.TextField("provider", blank=True, null=True)),
        migrations.AlterField("oauthstate", "redirect_uri", models.TextField("redirect uri", blank=True, null=True)),
        migrations.AlterField("oauthstate", "state", models.TextField("state")),
        migrations.AlterField(
            "session",
            "active_membership",
            models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=models.DO_NOTHING,
                related_name="sessions",
                to="tenancy.tenantmembership",
                verbose_name="active membership",
            ),
        ),
        migrations.AlterField(
            "session", "created_at", models.DateTimeField("created at", db_default=Now(), editable=False)
        ),
        migrations.AlterField("session", "expires_at", models.DateTimeField("expires at")),
        migrations.AlterField(
            "session",
            "id",
            models.UUIDField("id", db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
        ),
        migrations.AlterField(
            "session", "ip_address", models.GenericIPAddressField("ip address", blank=True, null=True)
        ),
        migrations.AlterField(
            "session", "last_accessed_at", models.DateTimeField("last accessed at", blank=True, null=True)
        ),
        migrations.AlterField("session", "revoked", models.BooleanField("revoked", db_default=False)),
        migrations.AlterField("session", "revoked_at", models.DateTimeField("revoked at", blank=True, null=True)),
        migrations.AlterField("session", "revoked_reason", models.TextField("revoked reason", blank=True, null=True)),
        migrations.AlterField("session", "session_id", models.TextField("session id")),
        migrations.AlterField(
            "session",
            "user",
            DatabaseForeignKey(
                on_delete=OnDelete.CASCADE, related_name="sessions", to="accounts.user", verbose_name="user"
            ),
        ),
        migrations.AlterField("session", "user_agent", models.TextField("user agent", blank=True, null=True)),
    ]
