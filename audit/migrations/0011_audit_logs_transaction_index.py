from django.contrib.postgres.indexes import BTreeIndex
from django.db import migrations

from keyhub.migration_operations import AddPartitionedIndexConcurrently


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("audit", "0010_audit_logs_transaction_id")]
    operations = [
        AddPartitionedIndexConcurrently(
            "auditlog", BTreeIndex(fields=["transaction_id", "id"], name="idx_audit_logs_transaction")
        )
    ]
