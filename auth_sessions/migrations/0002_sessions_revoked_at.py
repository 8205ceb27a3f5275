from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0001_initial_schema")]
    operations = [
        migrations.AddField("session", "revoked_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("session", "revoked_reason", models.TextField(blank=True, null=True)),
    ]
