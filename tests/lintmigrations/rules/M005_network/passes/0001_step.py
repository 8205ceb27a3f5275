import os
from urllib.parse import quote

from django.db import migrations


def fill(apps, schema_editor):
    return os.path, quote


class Migration(migrations.Migration):
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
