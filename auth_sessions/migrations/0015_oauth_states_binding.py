from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0014_validate_session_secrets")]
    operations = [
        migrations.AddField("oauthstate", "provider", models.TextField(blank=True, null=True)),
        migrations.AddField("oauthstate", "browser_digest", models.TextField(blank=True, editable=False, null=True)),
    ]
