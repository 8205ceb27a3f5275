from django.db import migrations


class Migration(migrations.Migration):
    atomic = False
    operations = [
        migrations.RunSQL(
            "ALTER TABLE badges ADD CONSTRAINT badges_check_label CHECK (label <> '') NOT VALID",
            "ALTER TABLE badges DROP CONSTRAINT badges_check_label",
        ),
        migrations.RunSQL("CREATE INDEX CONCURRENTLY ON badges (label)", migrations.RunSQL.noop),
        migrations.RunSQL(
            "CREATE INDEX CONCURRENTLY idx_badges_colour ON badges (colour)",
            "DROP INDEX CONCURRENTLY idx_badges_colour",
        ),
        migrations.RunSQL("ALTER TABLE parts DETACH PARTITION parts_1 CONCURRENTLY", migrations.RunSQL.noop),
        migrations.RunSQL("ALTER TABLE parts DETACH PARTITION parts_2 FINALIZE", migrations.RunSQL.noop),
    ]
