from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    # Built CONCURRENTLY, and made a constraint by the next one.
    atomic = False
    dependencies = [("tenancy", "0003_groups")]
    operations = [RunSQLFile("0004_tenant_memberships_user_key")]
