from django.db import migrations


class Migration(migrations.Migration):
    operations = [
        migrations.RunSQL(
            "ALTER TABLE badges ADD CONSTRAINT badges_check_colour CHECK (colour <> '') NOT VALID",
            "ALTER TABLE badges DROP CONSTRAINT badges_check_colour",
        ),
        migrations.RunSQL("ALTER TABLE parts DETACH PARTITION parts_1 FINALIZE", migrations.RunSQL.noop),
    ]
