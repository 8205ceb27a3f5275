from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel(
            name="Note",
            fields=[
                ("id", models.BigAutoField(primary_key=True)),
                ("url", models.TextField(help_text="Such as https://example.com/.")),
            ],
            options={"db_table": "notes"},
        )
    ]
