from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orgs", "0005_validate_organization_keys")]
    operations = [
        migrations.AddField(
            "organizationdomain",
            "verification_token",
            models.TextField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            "organizationdomain",
            "last_checked_at",
            models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField("organizationdomain", "failed_checks", models.IntegerField(db_default=0, editable=False)),
    ]
