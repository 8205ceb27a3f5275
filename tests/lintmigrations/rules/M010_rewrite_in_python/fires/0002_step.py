from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [migrations.AlterField("badge", "colour", models.IntegerField(null=True))]
