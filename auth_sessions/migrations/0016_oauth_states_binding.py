from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0015_session_secrets_drop_hashing")]
    operations = [
        migrations.AddField("oauthstate", "provider", models.TextField(blank=True, null=True)),
        migrations.AddField("oauthstate", "browser_digest", models.TextField(blank=True, editable=False, null=True)),
    ]
