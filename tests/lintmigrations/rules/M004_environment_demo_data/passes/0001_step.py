from django.conf import settings
from django.db import migrations


def fill(apps, schema_editor):
    if settings.DEMO_DATA:
        schema_editor.execute("DELETE FROM badges")


class Migration(migrations.Migration):
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
