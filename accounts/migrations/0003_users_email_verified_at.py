from django.db import migrations, models

from keyhub.migration_operations import RefuseRows, RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_users_disabled")]
    operations = [
        # For the unique index that the next migration builds outside a transaction.
        RefuseRows(
            "users",
            rule="idx_users_email",
            where=(
                "EXISTS (SELECT FROM users AS other "
                "WHERE lower(other.email) = lower(users.email) AND other.id <> users.id) ORDER BY lower(email), id"
            ),
            columns="id, email",
        ),
        migrations.AddField(
            "user",
            "email_verified_at",
            models.DateTimeField(
                blank=True,
                editable=False,
                help_text="Emptied by the database when the e-mail changes.",
                null=True,
            ),
        ),
        RunSQLFile("0003_users_email_verified_at"),
    ]
