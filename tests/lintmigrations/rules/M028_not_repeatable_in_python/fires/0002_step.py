from django.db import migrations

INSERT = "INSERT INTO badges (label) VALUES ('one')"


def fill(apps, schema_editor):
    Badge = apps.get_model("shop", "Badge")
    Badge.objects.create(label="two")
    Badge.objects.bulk_create([Badge(label="three")])
    schema_editor.execute(INSERT)


class Migration(migrations.Migration):
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
