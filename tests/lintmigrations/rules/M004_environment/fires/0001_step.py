import os
from os import environ

from django.conf import settings
from django.db import migrations


def fill(apps, schema_editor):
    return (
        os.environ["ORGANIZATION"],
        os.getenv("ORGANIZATION"),
        environ,
        settings.LANGUAGE_CODE,
        "https://keyhub.internal/callback",
    )


class Migration(migrations.Migration):
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
