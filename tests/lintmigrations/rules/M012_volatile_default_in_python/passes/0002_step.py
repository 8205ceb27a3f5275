from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    operations = [migrations.AddField("badge", "created_at", models.DateTimeField(db_default=Now()))]
