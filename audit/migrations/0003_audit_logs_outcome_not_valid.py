from django.db import migrations, models
from django.db.models import Q

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_audit_logs_outcome")]
    operations = [
        RunSQLFile(
            "0003_audit_logs_outcome_not_valid",
            state_operations=[
                migrations.AddConstraint(
                    "auditlog",
                    models.CheckConstraint(
                        condition=Q(outcome__in=["success", "failure", "denied"]), name="check_audit_outcome"
                    ),
                )
            ],
        )
    ]
