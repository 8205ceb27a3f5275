import psycopg
from django.apps import apps as all_apps
from django.db import migrations

from keyhub.settings import DEBUG


def fill(apps, schema_editor):
    from accounts.models import User

    from . import names

    return User, DEBUG, psycopg, names, all_apps


class Migration(migrations.Migration):
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
