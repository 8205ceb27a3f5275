from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import migrations, models
from django.db.models.functions import Now

from keyhub.foreign_keys import DatabaseForeignKey, OnDelete
from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0009_tenant_memberships_validate_left_reason")]
    operations = [
        migrations.AddField(
            "tenantjoincode", "revoked_at", models.DateTimeField(blank=True, editable=False, null=True)
        ),
        migrations.CreateModel(
            name="TenantJoinCodeRedemption",
            fields=[
                (
                    "id",
                    models.UUIDField(db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
                ),
                (
                    "join_code",
                    DatabaseForeignKey(
                        on_delete=OnDelete.CASCADE, related_name="redemptions", to="tenancy.tenantjoincode"
                    ),
                ),
                (
                    "membership",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=models.DO_NOTHING,
                        related_name="redemptions",
                        to="tenancy.tenantmembership",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=models.DO_NOTHING,
                        related_name="redemptions",
                        to="accounts.user",
                    ),
                ),
                ("redeemed_at", models.DateTimeField(db_default=Now(), editable=False)),
                (
                    "ended_at",
                    models.DateTimeField(
                        blank=True,
                        editable=False,
                        help_text="When the user came back, after leaving what the code gave.",
                        null=True,
                    ),
                ),
            ],
            options={
                "db_table": "tenant_join_code_redemptions",
                "indexes": [
                    BTreeIndex(fields=["join_code"], name="idx_redemptions_join_code_id"),
                    BTreeIndex(fields=["membership", "user"], name="idx_redemptions_membership_id"),
                ],
            },
        ),
        RunSQLFile("0010_tenant_join_codes_revoked"),
    ]
