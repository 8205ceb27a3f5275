from django.contrib.postgres.functions import RandomUUID
from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [migrations.AddField("badge", "key", models.UUIDField(db_default=RandomUUID(), null=True))]
