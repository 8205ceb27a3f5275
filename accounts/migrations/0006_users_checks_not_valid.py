from django.db import migrations, models
from django.db.models import Q
from django.db.models.functions import Length
from django.db.models.lookups import LessThanOrEqual

from keyhub.migration_operations import RefuseRows, RunSQLFile

EMAIL_FORM = r"^[^@\s\u0001-\u001f\u007f]+@[^@.\s\u0001-\u001f\u007f]+(\.[^@.\s\u0001-\u001f\u007f]+)*$"


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_users_email_any_case")]
    operations = [
        RefuseRows(
            "users",
            rule="check_user_email",
            where=f"length(email) > 254 OR email !~ '{EMAIL_FORM}'",
            columns="id, left(email, 300) AS email",
        ),
        RefuseRows(
            "users",
            rule="check_user_email_reserved",
            where=r"anonymized_at IS NULL AND email ~* '@anonymized\.invalid$'",
            columns="id, email",
        ),
        RefuseRows("users", rule="check_user_name", where=r"name !~ '\S'", columns="id, name"),
        RefuseRows("users", rule="check_user_anonymized", where="anonymized_at IS NOT NULL AND disabled_at IS NULL"),
        RefuseRows(
            "user_identities",
            rule="check_user_identity_provider",
            where="provider = '' OR length(provider) > 255",
            columns="id, user_id, left(provider, 300) AS provider",
        ),
        RefuseRows(
            "user_identities",
            rule="check_user_identity_provider_sub",
            where="provider_sub = '' OR length(provider_sub) > 255",
            columns="id, user_id, left(provider_sub, 300) AS provider_sub",
        ),
        RunSQLFile(
            "0006_users_checks_not_valid",
            state_operations=[
                migrations.AddConstraint(
                    "user",
                    models.CheckConstraint(
                        condition=Q(LessThanOrEqual(Length("email"), 254), email__regex=EMAIL_FORM),
                        name="check_user_email",
                        violation_error_message="The e-mail is no address, or longer than 254 characters.",
                    ),
                ),
                migrations.AddConstraint(
                    "user",
                    models.CheckConstraint(
                        condition=Q(anonymized_at__isnull=False) | ~Q(email__iregex=r"@anonymized\.invalid$"),
                        name="check_user_email_reserved",
                        violation_error_message="Addresses at anonymized.invalid are those of anonymized users.",
                    ),
                ),
                migrations.AddConstraint(
                    "user",
                    models.CheckConstraint(
                        condition=Q(name__regex=r"\S"),
                        name="check_user_name",
                        violation_error_message="A name is not blank. Leave it empty where there is none.",
                    ),
                ),
                migrations.AddConstraint(
                    "user",
                    models.CheckConstraint(
                        condition=Q(anonymized_at__isnull=True) | Q(disabled_at__isnull=False),
                        name="check_user_anonymized",
                        violation_error_message="An anonymized user stays disabled.",
                    ),
                ),
                migrations.AddConstraint(
                    "useridentity",
                    models.CheckConstraint(
                        condition=Q(~Q(provider=""), LessThanOrEqual(Length("provider"), 255)),
                        name="check_user_identity_provider",
                        violation_error_message="A provider is named by 1 to 255 characters.",
                    ),
                ),
                migrations.AddConstraint(
                    "useridentity",
                    models.CheckConstraint(
                        condition=Q(~Q(provider_sub=""), LessThanOrEqual(Length("provider_sub"), 255)),
                        name="check_user_identity_provider_sub",
                        violation_error_message="A provider's id of a person has 1 to 255 characters.",
                    ),
                ),
            ],
        ),
    ]
