from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


def check(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT label FROM badges WHERE label = ''")
        if cursor.fetchall():
            raise ValueError("There are badges without a label.")


class Migration(migrations.Migration):
    operations = [
        migrations.RunPython(check, migrations.RunPython.noop),
        AddConstraintNotValid("badge", models.CheckConstraint(condition=~models.Q(label=""), name="check_label")),
    ]
