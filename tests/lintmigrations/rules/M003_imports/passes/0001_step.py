import datetime
from pathlib import Path

from django.db import migrations

from keyhub.foreign_keys import DatabaseForeignKey
from keyhub.migration_operations import RunSQLFile


def fill(apps, schema_editor):
    return apps.get_model("accounts", "User"), datetime.date.max, Path, DatabaseForeignKey, RunSQLFile


class Migration(migrations.Migration):
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
