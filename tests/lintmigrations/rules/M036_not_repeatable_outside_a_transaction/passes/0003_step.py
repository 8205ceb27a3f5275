from django.db import migrations


def shout(apps, schema_editor):
    schema_editor.connection.cursor().execute("UPDATE badges SET label = upper(label) WHERE label <> upper(label)")


class Migration(migrations.Migration):
    atomic = False
    operations = [migrations.RunPython(shout, migrations.RunPython.noop)]
