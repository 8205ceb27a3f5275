from django.contrib.postgres.indexes import BTreeIndex
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("tenancy", "0015_fill_group_memberships_tenant")]
    operations = [
        AddIndexConcurrently(
            "groupmembership", BTreeIndex(fields=["tenant_id", "user"], name="idx_group_memberships_tenant_id")
        )
    ]
