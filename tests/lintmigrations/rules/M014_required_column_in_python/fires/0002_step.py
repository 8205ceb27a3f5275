from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [migrations.AddField("badge", "size", models.IntegerField(default=1))]
