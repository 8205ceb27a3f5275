from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import migrations, models
from django.db.models.functions import Coalesce, Now

from keyhub.foreign_keys import DatabaseForeignKey, OnDelete
from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0002_seed_data")]
    operations = [
        migrations.CreateModel(
            name="Group",
            fields=[
                (
                    "id",
                    models.UUIDField(db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
                ),
                (
                    "tenant",
                    DatabaseForeignKey(on_delete=OnDelete.CASCADE, related_name="groups", to="tenancy.tenant"),
                ),
                ("name", models.TextField()),
                ("description", models.TextField(blank=True, null=True)),
                (
                    "parent_group",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=models.DO_NOTHING,
                        related_name="child_groups",
                        to="tenancy.group",
                    ),
                ),
                ("parent_depth", models.IntegerField(editable=False, null=True)),
                (
                    "depth",
                    models.GeneratedField(
                        db_persist=True,
                        expression=Coalesce(models.F("parent_depth") + 1, 0),
                        output_field=models.IntegerField(),
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
                ("updated_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "db_table": "groups",
                "indexes": [
                    BTreeIndex(fields=["tenant", "parent_group", "parent_depth"], name="idx_groups_parent_group_id")
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id", "depth"), name="groups_tenant_id_id_depth_key"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("parent_depth__isnull", True), ("parent_group__isnull", True)),
                            models.Q(("parent_depth__isnull", False), ("parent_group__isnull", False)),
                            _connector="OR",
                        ),
                        name="check_parent_depth",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("parent_depth__gte", 0), ("parent_depth__lt", 31)),
                            ("parent_depth__isnull", True),
                            _connector="OR",
                        ),
                        name="check_group_depth",
                        violation_error_message="Groups are nested too deeply.",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="GroupMembership",
            fields=[
                (
                    "id",
                    models.UUIDField(db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
                ),
                (
                    "group",
                    DatabaseForeignKey(on_delete=OnDelete.CASCADE, related_name="memberships", to="tenancy.group"),
                ),
                (
                    "user",
                    DatabaseForeignKey(
                        on_delete=OnDelete.CASCADE, related_name="group_memberships", to="accounts.user"
                    ),
                ),
                (
                    "role",
                    models.TextField(choices=[("admin", "Admin"), ("member", "Member")], db_default="member"),
                ),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "db_table": "group_memberships",
                "indexes": [BTreeIndex(fields=["user"], name="idx_group_memberships_user_id")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("group", "user"),
                        name="group_memberships_group_id_user_id_key",
                        violation_error_message="The user is already in this group.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("role__in", ["admin", "member"])), name="check_group_role"
                    ),
                ],
            },
        ),
        RunSQLFile("0003_groups"),
    ]
