from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [migrations.AddIndex("badge", models.Index(fields=["label"], name="idx_badges_label"))]
