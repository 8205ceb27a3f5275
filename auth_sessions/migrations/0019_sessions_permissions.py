from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0018_oauth_states_validate_rules")]
    operations = [
        migrations.AlterModelOptions("session", options={"permissions": [("revoke_session", "Can revoke sessions")]}),
        migrations.AlterModelOptions(
            "consolesession", options={"permissions": [("revoke_consolesession", "Can revoke console sessions")]}
        ),
    ]
