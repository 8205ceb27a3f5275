from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [AddIndexConcurrently("badge", models.Index(fields=["label"], name="idx_badges_label"))]
