from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0009_users_permissions")]
    operations = [
        migrations.AddField(
            "operator",
            "role",
            models.TextField(
                blank=True,
                choices=[("viewer", "Viewer"), ("support", "Support"), ("admin", "Admin")],
                help_text="What the operator may do, besides what groups and single permissions give.",
                null=True,
            ),
        ),
        AddConstraintNotValid(
            "operator",
            models.CheckConstraint(
                condition=models.Q(role__in=["viewer", "support", "admin"]), name="check_operator_role"
            ),
        ),
    ]
