from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [migrations.AddField("badge", "size", models.IntegerField(db_default=1))]
