from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("accounts", "0008_identities_of_anonymized_users")]
    operations = [
        migrations.AlterModelOptions(
            "user",
            options={
                "permissions": [
                    ("disable_user", "Can disable and enable users"),
                    ("anonymize_user", "Can anonymize users"),
                ]
            },
        )
    ]
