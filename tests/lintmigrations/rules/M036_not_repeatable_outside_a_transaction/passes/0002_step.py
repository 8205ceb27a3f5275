from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models

from keyhub.migration_operations import AddPartitionedIndexConcurrently, RemovePartitionedIndexConcurrently


class Migration(migrations.Migration):
    atomic = False
    operations = [
        AddIndexConcurrently("badge", models.Index(fields=["label"], name="idx_badges_label")),
        RemoveIndexConcurrently("badge", "idx_badges_label"),
        AddPartitionedIndexConcurrently("badge", models.Index(fields=["label"], name="idx_badges_label")),
        RemovePartitionedIndexConcurrently("badge", "idx_badges_label"),
        migrations.RunSQL(
            "CREATE INDEX CONCURRENTLY idx_badges_colour ON badges (colour)",
            "DROP INDEX CONCURRENTLY IF EXISTS idx_badges_colour",
        ),
        migrations.RunSQL("ALTER TABLE badges VALIDATE CONSTRAINT badges_check_label", migrations.RunSQL.noop),
        migrations.RunSQL("REINDEX TABLE CONCURRENTLY badges", migrations.RunSQL.noop),
        migrations.RunSQL("ALTER INDEX idx_parts ATTACH PARTITION idx_parts_1", migrations.RunSQL.noop),
    ]
