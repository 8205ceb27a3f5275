from django.db import migrations, models

from keyhub.migration_operations import AddPartitionedIndexConcurrently


class Migration(migrations.Migration):
    operations = [AddPartitionedIndexConcurrently("event", models.Index(fields=["id"], name="idx_events_id"))]
