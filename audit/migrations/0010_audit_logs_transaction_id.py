from django.db import migrations

from keyhub.migration_operations import RunSQLFile
from keyhub.transaction_ids import CurrentTransactionId, TransactionIdField


class Migration(migrations.Migration):
    dependencies = [("audit", "0009_audit_logs_drop_resource_index")]
    operations = [
        RunSQLFile(
            "0010_audit_logs_transaction_id",
            state_operations=[
                migrations.AddField(
                    "auditlog",
                    "transaction_id",
                    TransactionIdField(db_default=CurrentTransactionId(), editable=False, null=True),
                )
            ],
        )
    ]
