from django.db import migrations


class Migration(migrations.Migration):
    operations = [
        migrations.RunSQL("ALTER TABLE badges DROP COLUMN colour", "ALTER TABLE badges ADD COLUMN colour text")
    ]
