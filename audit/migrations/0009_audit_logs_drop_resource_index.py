from django.db import migrations

from keyhub.migration_operations import RemovePartitionedIndexConcurrently


class Migration(migrations.Migration):
    # Its way back builds the index again.
    atomic = False
    dependencies = [("audit", "0008_audit_logs_resource_created_index")]
    # lintmigrations: squawk.require-concurrent-index-deletion because PostgreSQL knows none for a partitioned index
    operations = [RemovePartitionedIndexConcurrently("auditlog", "idx_audit_logs_resource")]
