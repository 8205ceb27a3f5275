from django.db import migrations, models
from django.db.models import Q

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0011_sessions_take_off_left_memberships")]
    operations = [
        RunSQLFile(
            "0012_session_secrets_not_valid",
            state_operations=[
                migrations.AddConstraint(
                    "session",
                    models.CheckConstraint(
                        condition=Q(session_id__regex="^[0-9a-f]{64}$"), name="check_session_id_hashed"
                    ),
                ),
                migrations.AddConstraint(
                    "consolesession",
                    models.CheckConstraint(
                        condition=Q(session_id__regex="^[0-9a-f]{64}$"), name="check_console_session_id_hashed"
                    ),
                ),
                migrations.AddConstraint(
                    "oauthstate",
                    models.CheckConstraint(condition=Q(state__regex="^[0-9a-f]{64}$"), name="check_oauth_state_hashed"),
                ),
            ],
        )
    ]
