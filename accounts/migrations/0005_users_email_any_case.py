from django.db import migrations, models
from django.db.models.functions import Lower

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("accounts", "0004_users_email_any_case_index")]
    operations = [
        RunSQLFile(
            "0005_users_email_any_case",
            state_operations=[
                migrations.RemoveConstraint("user", "idx_users_email"),
                migrations.AddConstraint(
                    "user",
                    models.UniqueConstraint(
                        Lower("email"),
                        name="idx_users_email",
                        violation_error_message="There is already a user with this e-mail.",
                    ),
                ),
            ],
        )
    ]
