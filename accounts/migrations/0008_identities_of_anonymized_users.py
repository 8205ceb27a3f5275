from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("accounts", "0007_users_validate_checks")]
    operations = [RunSQLFile("0008_identities_of_anonymized_users")]
