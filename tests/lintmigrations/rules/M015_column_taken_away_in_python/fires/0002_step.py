from django.db import migrations


class Migration(migrations.Migration):
    operations = [
        migrations.RemoveField("badge", "colour"),
        migrations.RenameField("badge", "label", "title"),
    ]
