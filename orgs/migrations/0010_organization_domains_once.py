from django.db import migrations, models
from django.db.models import F

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("orgs", "0009_organization_validate_checks")]
    operations = [
        RunSQLFile(
            "0010_organization_domains_once",
            state_operations=[
                migrations.AddConstraint(
                    "organizationdomain",
                    models.UniqueConstraint(
                        F("organization"),
                        F("domain"),
                        name="organization_domains_organization_id_domain_key",
                        violation_error_message="The organization already claims the domain.",
                    ),
                ),
                migrations.RemoveIndex("organizationdomain", "idx_organization_domains_org_id"),
            ],
        )
    ]
