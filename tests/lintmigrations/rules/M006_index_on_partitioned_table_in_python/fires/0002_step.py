from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [migrations.AddIndex("event", models.Index(fields=["id"], name="idx_events_id"))]
