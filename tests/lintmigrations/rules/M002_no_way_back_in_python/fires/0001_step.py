from django.db import migrations


def fill(apps, schema_editor):
    pass


class Migration(migrations.Migration):
    operations = [
        migrations.RunPython(fill),
        migrations.RunSQL("UPDATE badges SET colour = 'red' WHERE colour IS NULL"),
    ]
