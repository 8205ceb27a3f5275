from django.contrib.postgres.indexes import BTreeIndex
from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0003_sessions_membership_user_index")]
    operations = [
        RunSQLFile(
            "0004_sessions_swap_membership_indexes",
            state_operations=[
                migrations.RemoveIndex("session", "idx_sessions_active_membership"),
                migrations.AddIndex(
                    "session",
                    BTreeIndex(fields=["active_membership", "user"], name="idx_sessions_active_membership"),
                ),
            ],
        )
    ]
