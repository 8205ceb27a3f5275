from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    initial = True
    operations = [RunSQLFile("0001_updated_at_function")]
