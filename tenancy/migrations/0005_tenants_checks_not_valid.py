from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models

from keyhub.migration_operations import RefuseRows

SLUG = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0004_tenant_memberships_user_key")]
    operations = [
        RefuseRows("tenants", "check_tenant_slug", f"slug !~ '{SLUG}'", columns="id, slug"),
        RefuseRows("tenants", "check_tenant_name", r"name !~ '\S'"),
        RefuseRows("groups", "check_group_name", r"name !~ '\S'", columns="id, tenant_id"),
        AddConstraintNotValid(
            "tenant",
            models.CheckConstraint(
                condition=models.Q(slug__regex=SLUG),
                name="check_tenant_slug",
                violation_error_message="A slug is 1 to 63 letters a to z, digits and hyphens, and neither begins nor "
                "ends with a hyphen.",
            ),
        ),
        AddConstraintNotValid(
            "tenant",
            models.CheckConstraint(
                condition=models.Q(name__regex=r"\S"),
                name="check_tenant_name",
                violation_error_message="The name is blank.",
            ),
        ),
        AddConstraintNotValid(
            "group",
            models.CheckConstraint(
                condition=models.Q(name__regex=r"\S"),
                name="check_group_name",
                violation_error_message="The name is blank.",
            ),
        ),
    ]
