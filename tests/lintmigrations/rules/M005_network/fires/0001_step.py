import os
import subprocess
from urllib.request import urlopen

from django.db import migrations


def fill(apps, schema_editor):
    import requests

    return os.system, subprocess, urlopen, requests


class Migration(migrations.Migration):
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
