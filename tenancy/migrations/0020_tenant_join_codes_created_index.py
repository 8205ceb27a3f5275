from django.contrib.postgres.indexes import BTreeIndex
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations
from django.db.models import F


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("tenancy", "0019_tenant_join_codes_permissions")]
    operations = [
        AddIndexConcurrently(
            "tenantjoincode",
            BTreeIndex(F("created_at").desc(), F("id").desc(), name="idx_tenant_join_codes_created_at"),
        )
    ]
