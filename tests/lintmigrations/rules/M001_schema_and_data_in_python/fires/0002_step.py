from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


def fill(apps, schema_editor):
    apps.get_model("shop", "Badge").objects.filter(label="").update(label="none")


class Migration(migrations.Migration):
    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
        AddConstraintNotValid("badge", models.CheckConstraint(condition=~models.Q(label=""), name="check_label")),
    ]
