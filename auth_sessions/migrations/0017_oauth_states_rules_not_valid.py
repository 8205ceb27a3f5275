from django.db import migrations, models
from django.db.models import Q

from keyhub.migration_operations import RefuseRows, RunSQLFile

LOCAL_PATH = r"^/([^/\\\u0001-\u001f\u007f-\u009f][^\\\u0001-\u001f\u007f-\u009f]*)?$"


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0016_oauth_states_binding")]
    operations = [
        RefuseRows(
            "oauth_states",
            "check_oauth_redirect_uri",
            where=f"redirect_uri !~ '{LOCAL_PATH}'",
            columns="id, created_at, redirect_uri",
        ),
        RunSQLFile(
            "0017_oauth_states_rules_not_valid",
            state_operations=[
                migrations.AddConstraint(
                    "oauthstate",
                    models.CheckConstraint(
                        condition=Q(redirect_uri__regex=LOCAL_PATH),
                        name="check_oauth_redirect_uri",
                        violation_error_message="The way back after sign-in is a path of this site, such as /home.",
                    ),
                ),
                migrations.AddConstraint(
                    "oauthstate",
                    models.CheckConstraint(
                        condition=Q(browser_digest__regex="^[0-9a-f]{64}$"), name="check_oauth_browser_digest"
                    ),
                ),
            ],
        ),
    ]
