from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [migrations.AlterField("badge", "label", models.TextField())]
