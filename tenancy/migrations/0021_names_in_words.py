from django.contrib.postgres.functions import RandomUUID
from django.db import migrations, models
from django.db.models.functions import Coalesce, Now

from keyhub.foreign_keys import DatabaseForeignKey, OnDelete


class Migration(migrations.Migration):
    dependencies = [("accounts", "0012_names_in_words"), ("tenancy", "0020_tenant_join_codes_created_index")]
    operations = [
        migrations.AlterModelOptions("group", {"verbose_name": "group", "verbose_name_plural": "groups"}),
        migrations.AlterModelOptions(
            "groupmembership", {"verbose_name": "group membership", "verbose_name_plural": "group memberships"}
        ),
        migrations.AlterModelOptions("tenant", {"verbose_name": "tenant", "verbose_name_plural": "tenants"}),
        migrations.AlterModelOptions(
            "tenantjoincode",
            {
                "permissions": [("revoke_tenantjoincode", "Can revoke tenant join codes")],
                "verbose_name": "tenant join code",
                "verbose_name_plural": "tenant join codes",
            },
        ),
        migrations.AlterModelOptions(
            "tenantjoincoderedemption",
            {"verbose_name": "tenant join code redemption", "verbose_name_plural": "tenant join code redemptions"},
        ),
        migrations.AlterModelOptions(
            "tenantmembership", {"verbose_name": "tenant membership", "verbose_name_plural": "tenant memberships"}
        ),
        migrations.AlterField(
            "group", "created_at", models.DateTimeField("created at", db_default=Now(), editable=False)
        ),
        migrations.AlterField(
            "group",
            "depth",
            models.GeneratedField(
                db_persist=True,
                expression=Coalesce(models.F("parent_depth") + 1, 0),
                output_field=models.IntegerField(),
                verbose_name="depth",
            ),
        ),
        migrations.AlterField("group", "description", models.TextField("description", blank=True, null=True)),
        migrations.AlterField(
            "group",
            "id",
            models.UUIDField("id", db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
        ),
        migrations.AlterField("group", "name", models.TextField("name")),
        migrations.AlterField("group", "parent_depth", models.IntegerField("parent depth", editable=False, null=True)),
        migrations.AlterField(
            "group",
            "parent_group",
            models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=models.DO_NOTHING,
                related_name="child_groups",
                to="tenancy.group",
                verbose_name="parent group",
            ),
        ),
        migrations.AlterField(
            "group",
            "tenant",
            DatabaseForeignKey(
                on_delete=OnDelete.CASCADE, related_name="groups", to="tenancy.tenant", verbose_name="tenant"
            ),
        ),
        migrations.AlterField(
            "group", "updated_at", models.DateTimeField("updated at", db_default=Now(), editable=False)
        ),
        migrations.AlterField(
            "groupmembership", "created_at", models.DateTimeField("created at", db_default=Now(), editable=False)
        ),
        migrations.AlterField(
            "groupmembership",
            "group",
            DatabaseForeignKey(
                on_delete=OnDelete.CASCADE, related_name="memberships", to="tenancy.group", verbose_name="group"
            ),
        ),
        migrations.AlterField(
            "groupmembership",
            "id",
            models.UUIDField("id", db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
        ),
        migrations.AlterField(
            "groupmembership",
            "role",
            models.TextField("role", choices=[("admin", "Admin"), ("member", "Member")], db_default="member"),
        ),
        migrations.AlterField("groupmembership", "tenant_id", models.UUIDField("tenant id", editable=False, null=True)),
        migrations.AlterField(
            "groupmembership",
            "user",
            DatabaseForeignKey(
                on_delete=OnDelete.CASCADE, related_name="group_memberships", to="accounts.user", verbose_name="user"
            ),
        ),
        migrations.AlterField(
            "tenant", "created_at", models.DateTimeField("created at", db_default=Now(), editable=False)
        ),
        migrations.AlterField("tenant", "description", models.TextField("description", blank=True, null=True)),
        migrations.AlterField(
            "tenant",
            "id",
            models.UUIDField("id", db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
        ),
        migrations.AlterField("tenant", "is_default", models.BooleanField("is default", db_default=False)),
        migrations.AlterField("tenant", "name", models.TextField("name")),
        migrations.AlterField(
            "tenant", "organization_id", models.TextField("organization id", db_default="ORG-DEFAULT-001")
        ),
        migrations.AlterField("tenant", "slug", models.TextField("slug")),
        migrations.AlterField(
            "tenant",
            "tenant_type",
            models.TextField(
                "tenant type",
                choices=[
                    ("team", "Team"),
                    ("department", "Department"),
                    ("project", "Project"),
                    ("laboratory", "Laboratory"),
                ],
                db_default="team",
            ),
        ),
        migrations.AlterField(
            "tenant", "updated_at", models.DateTimeField("updated at", db_default=Now(), editable=False)
        ),
        migrations.AlterField("tenantjoincode", "code", models.TextField("code")),
        migrations.AlterField(
            "tenantjoincode", "created_at", models.DateTimeField("created at", db_default=Now(), editable=False)
        ),
        migrations.AlterField(
            "tenantjoincode",
            "created_by",
            DatabaseForeignKey(
                blank=True,
                db_column="created_by",
                null=True,
                on_delete=OnDelete.SET_NULL,
                related_name="issued_join_codes",
                to="accounts.user",
                verbose_name="created by",
            ),
        ),
        migrations.AlterField(
            "tenantjoincode",
            "expires_at",
            models.DateTimeField("expires at", blank=True, help_text="Empty: never.", null=True),
        ),
        migrations.AlterField(
            "tenantjoincode",
            "id",
            models.UUIDField("id", db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
        ),
        migrations.AlterField(
            "tenantjoincode", "max_uses", models.IntegerField("max uses", db_default=0, help_text="0: no limit.")
        ),
        migrations.AlterField(
            "tenantjoincode", "revoked_at", models.DateTimeField("revoked at", blank=True, editable=False, null=True)
        ),
        migrations.AlterField(
            "tenantjoincode",
            "role",
            models.TextField("role", choices=[("member", "Member"), ("viewer", "Viewer")], db_default="member"),
        ),
        migrations.AlterField(
            "tenantjoincode",
            "tenant",
            DatabaseForeignKey(
                on_delete=OnDelete.CASCADE, related_name="join_codes", to="tenancy.tenant", verbose_name="tenant"
            ),
        ),
        migrations.AlterField(
            "tenantjoincode", "used_count", models.IntegerField("used count", db_default=0, editable=False)
        ),
        migrations.AlterField(
            "tenantjoincoderedemption",
            "ended_at",
            models.DateTimeField(
                "ended at",
                blank=True,
                editable=False,
                help_text="When the user came back, after leaving what the code gave.",
                null=True,
            ),
        ),
        migrations.AlterField(
            "tenantjoincoderedemption",
            "id",
            models.UUIDField("id", db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
        ),
        migrations.AlterField(
            "tenantjoincoderedemption",
            "join_code",
            DatabaseForeignKey(
                on_delete=OnDelete.CASCADE,
                related_name="redemptions",
                to="tenancy.tenantjoincode",
                verbose_name="join code",
            ),
        ),
        migrations.AlterField(
            "tenantjoincoderedemption",
            "membership",
            models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=models.DO_NOTHING,
                related_name="redemptions",
                to="tenancy.tenantmembership",
                verbose_name="membership",
            ),
        ),
        migrations.AlterField(
            "tenantjoincoderedemption",
            "redeemed_at",
            models.DateTimeField("redeemed at", db_default=Now(), editable=False),
        ),
        migrations.AlterField(
            "tenantjoincoderedemption",
            "user",
            models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=models.DO_NOTHING,
                related_name="redemptions",
                to="accounts.user",
                verbose_name="user",
            ),
        ),
        migrations.AlterField(
            "tenantmembership", "created_at", models.DateTimeField("created at", db_default=Now(), editable=False)
        ),
        migrations.AlterField(
            "tenantmembership",
            "id",
            models.UUIDField("id", db_default=RandomUUID(), editable=False, primary_key=True, serialize=False),
        ),
        migrations.AlterField("tenantmembership", "left_at", models.DateTimeField("left at", blank=True, null=True)),
        migrations.AlterField(
            "tenantmembership",
            "left_reason",
            models.TextField(
                "left reason",
                blank=True,
                choices=[("left", "Left"), ("removed", "Removed"), ("code_revoked", "Code Revoked")],
                editable=False,
                null=True,
            ),
        ),
        migrations.AlterField(
            "tenantmembership",
            "role",
            models.TextField(
                "role", choices=[("admin", "Admin"), ("member", "Member"), ("viewer", "Viewer")], db_default="member"
            ),
        ),
        migrations.AlterField(
            "tenantmembership",
            "tenant",
            DatabaseForeignKey(
                on_delete=OnDelete.CASCADE, related_name="memberships", to="tenancy.tenant", verbose_name="tenant"
            ),
        ),
        migrations.AlterField(
            "tenantmembership", "updated_at", models.DateTimeField("updated at", db_default=Now(), editable=False)
        ),
        migrations.AlterField(
            "tenantmembership",
            "user",
            DatabaseForeignKey(
                on_delete=OnDelete.CASCADE, related_name="memberships", to="accounts.user", verbose_name="user"
            ),
        ),
    ]
