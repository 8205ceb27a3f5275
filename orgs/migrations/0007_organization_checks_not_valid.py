from django.db import migrations, models
from django.db.models import Q
from django.db.models.functions import Length
from django.db.models.lookups import LessThanOrEqual

from keyhub.migration_operations import RefuseRows, RunSQLFile

SLUG_FORM = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
HOST_NAME = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class Migration(migrations.Migration):
    dependencies = [("orgs", "0006_organization_domains_verification")]
    operations = [
        RefuseRows("organizations", rule="check_organization_slug", where=f"slug !~ '{SLUG_FORM}'", columns="id, slug"),
        RefuseRows("organizations", rule="check_organization_name", where=r"name !~ '\S'", columns="id, name"),
        # In any case: the next migration turns it.
        RefuseRows(
            "organization_domains",
            rule="check_organization_domain",
            where=f"length(domain) > 253 OR lower(domain) !~ '{HOST_NAME}'",
            columns="id, organization_id, left(domain, 300) AS domain",
        ),
        RefuseRows(
            "organization_domains",
            rule="organization_domains_organization_id_domain_key",
            where=(
                "EXISTS (SELECT FROM organization_domains AS other "
                "WHERE other.organization_id = organization_domains.organization_id "
                "AND lower(other.domain) = lower(organization_domains.domain) "
                "AND other.id <> organization_domains.id) ORDER BY organization_id, lower(domain), id"
            ),
            columns="id, organization_id, domain, is_verified",
        ),
        RunSQLFile(
            "0007_organization_checks_not_valid",
            state_operations=[
                migrations.AddConstraint(
                    "organization",
                    models.CheckConstraint(
                        condition=Q(slug__regex=SLUG_FORM),
                        name="check_organization_slug",
                        violation_error_message="A slug is 1 to 63 of a-z, 0-9 and -, with no hyphen at either end.",
                    ),
                ),
                migrations.AddConstraint(
                    "organization",
                    models.CheckConstraint(
                        condition=Q(name__regex=r"\S"),
                        name="check_organization_name",
                        violation_error_message="A name is not blank.",
                    ),
                ),
                migrations.AddConstraint(
                    "organizationdomain",
                    models.CheckConstraint(
                        condition=Q(LessThanOrEqual(Length("domain"), 253), domain__regex=HOST_NAME),
                        name="check_organization_domain",
                        violation_error_message="A domain is a host name in lower case, such as example.com.",
                    ),
                ),
                migrations.AddConstraint(
                    "organizationdomain",
                    models.CheckConstraint(condition=Q(failed_checks__gte=0), name="check_failed_checks"),
                ),
            ],
        ),
    ]
