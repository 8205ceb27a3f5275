from django.db import migrations


class Migration(migrations.Migration):
    atomic = False
    operations = [
        migrations.RunSQL("UPDATE badges SET label = label || '!'", migrations.RunSQL.noop),
    ]
