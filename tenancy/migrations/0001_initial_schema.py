from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import migrations, models
from django.db.models.functions import Now

from keyhub.foreign_keys import DatabaseForeignKey, OnDelete
from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    initial = True
    dependencies = [("accounts", "0001_initial_schema")]
    operations = [
        migrations.CreateModel(
            name="Tenant",
            fields=[
                (
                    "id",
                    models.UUIDField(db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
                ),
                ("organization_id", models.TextField(db_default="ORG-DEFAULT-001")),
                ("name", models.TextField()),
                ("slug", models.TextField()),
                ("description", models.TextField(blank=True, null=True)),
                (
                    "tenant_type",
                    models.TextField(
                        choices=[
                            ("team", "Team"),
                            ("department", "Department"),
                            ("project", "Project"),
                            ("laboratory", "Laboratory"),
                        ],
                        db_default="team",
                    ),
                ),
                ("is_default", models.BooleanField(db_default=False)),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
                ("updated_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "db_table": "tenants",
                "indexes": [BTreeIndex(fields=["slug"], name="idx_tenants_slug")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization_id", "slug"),
                        name="tenants_organization_id_slug_key",
                        violation_error_message="The organization already has a tenant with this slug.",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("is_default", True)),
                        fields=("organization_id",),
                        name="idx_tenants_is_default",
                        violation_error_message="The organization already has a default tenant.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("tenant_type__in", ["team", "department", "project", "laboratory"])),
                        name="check_tenant_type",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="TenantMembership",
            fields=[
                (
                    "id",
                    models.UUIDField(db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
                ),
                (
                    "tenant",
                    DatabaseForeignKey(on_delete=OnDelete.CASCADE, related_name="memberships", to="tenancy.tenant"),
                ),
                (
                    "user",
                    DatabaseForeignKey(on_delete=OnDelete.CASCADE, related_name="memberships", to="accounts.user"),
                ),
                (
                    "role",
                    models.TextField(
                        choices=[("admin", "Admin"), ("member", "Member"), ("viewer", "Viewer")],
                        db_default="member",
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
                ("left_at", models.DateTimeField(blank=True, null=True)),
                ("updated_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "db_table": "tenant_memberships",
                "indexes": [BTreeIndex(fields=["user"], name="idx_tenant_memberships_user_id")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "user"),
                        name="tenant_memberships_tenant_id_user_id_key",
                        violation_error_message=("The user already has a membership here, perhaps one that was left."),
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("role__in", ["admin", "member", "viewer"])), name="check_role"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="TenantJoinCode",
            fields=[
                (
                    "id",
                    models.UUIDField(db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
                ),
                (
                    "tenant",
                    DatabaseForeignKey(on_delete=OnDelete.CASCADE, related_name="join_codes", to="tenancy.tenant"),
                ),
                ("code", models.TextField()),
                ("expires_at", models.DateTimeField(blank=True, help_text="Empty: never.", null=True)),
                ("max_uses", models.IntegerField(db_default=0, help_text="0: no limit.")),
                ("used_count", models.IntegerField(db_default=0, editable=False)),
                (
                    "role",
                    models.TextField(choices=[("member", "Member"), ("viewer", "Viewer")], db_default="member"),
                ),
                (
                    "created_by",
                    DatabaseForeignKey(
                        blank=True,
                        db_column="created_by",
                        null=True,
                        on_delete=OnDelete.SET_NULL,
                        related_name="issued_join_codes",
                        to="accounts.user",
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "db_table": "tenant_join_codes",
                "indexes": [
                    BTreeIndex(fields=["tenant"], name="idx_tenant_join_codes_tenant_id"),
                    BTreeIndex(fields=["expires_at"], name="idx_tenant_join_codes_expires_at"),
                    BTreeIndex(fields=["tenant", "expires_at"], name="idx_tenant_join_codes_active"),
                    BTreeIndex(fields=["created_by"], name="idx_tenant_join_codes_created_by"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("code",), name="idx_tenant_join_codes_code"),
                    models.CheckConstraint(condition=models.Q(("max_uses__gte", 0)), name="check_max_uses"),
                    models.CheckConstraint(condition=models.Q(("used_count__gte", 0)), name="check_used_count"),
                    models.CheckConstraint(
                        condition=models.Q(("role__in", ["member", "viewer"])), name="check_join_role"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("max_uses", 0), ("used_count__lte", models.F("max_uses")), _connector="OR"),
                        name="check_used_count_within_max_uses",
                        violation_error_message="The code has been used more often than this limit allows.",
                    ),
                ],
            },
        ),
        RunSQLFile("0001_initial_schema"),
    ]
