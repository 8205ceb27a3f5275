from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    # Built CONCURRENTLY under another name; the next one puts it in the place of the old one.
    atomic = False
    dependencies = [("accounts", "0003_users_email_verified_at")]
    operations = [RunSQLFile("0004_users_email_any_case_index")]
