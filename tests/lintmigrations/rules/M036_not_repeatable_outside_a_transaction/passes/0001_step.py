from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel(
            name="Badge",
            fields=[
                ("id", models.BigAutoField(primary_key=True)),
                ("label", models.CharField(max_length=20)),
                ("colour", models.TextField(null=True)),
            ],
            options={"db_table": "badges"},
        )
    ]
