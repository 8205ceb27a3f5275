from django.contrib.postgres.indexes import BTreeIndex
from django.db import migrations
from django.db.models import F

from keyhub.migration_operations import AddPartitionedIndexConcurrently


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("audit", "0007_audit_archives")]
    operations = [
        AddPartitionedIndexConcurrently(
            "auditlog",
            BTreeIndex("resource_type", "resource_id", F("created_at").desc(), name="idx_audit_logs_resource_created"),
        )
    ]
