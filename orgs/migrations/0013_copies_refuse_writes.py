from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("orgs", "0012_names_in_words"),
        ("auth_sessions", "0020_names_in_words"),
    ]
    operations = [RunSQLFile("0013_copies_refuse_writes")]
