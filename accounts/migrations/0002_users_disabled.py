from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial_schema")]
    operations = [
        migrations.AddField("user", "disabled_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("user", "anonymized_at", models.DateTimeField(blank=True, editable=False, null=True)),
    ]
