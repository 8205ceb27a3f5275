from django.db import migrations


def fill(apps, schema_editor):
    Badge = apps.get_model("shop", "Badge")
    Badge.objects.get_or_create(label="two")
    Badge.objects.bulk_create([Badge(label="three")], ignore_conflicts=True)


class Migration(migrations.Migration):
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
