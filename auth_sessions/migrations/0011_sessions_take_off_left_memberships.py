from django.db import migrations

BATCH = """
    WITH batch AS (
        SELECT sessions.id
        FROM sessions JOIN tenant_memberships AS membership ON membership.id = sessions.active_membership_id
        WHERE membership.left_at IS NOT NULL AND NOT sessions.revoked
        ORDER BY sessions.id LIMIT 1000 FOR UPDATE OF sessions
    )
    UPDATE sessions SET active_membership_id = NULL FROM batch WHERE sessions.id = batch.id
"""


def take_off(apps, schema_editor):
    """Sessions from before the triggers. Each batch commits by itself; what is done is not found again."""
    with schema_editor.connection.cursor() as cursor:
        while True:
            cursor.execute(BATCH)
            if not cursor.rowcount:
                return


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("auth_sessions", "0010_sessions_of_disabled_users")]
    # The way back leaves the rows: nobody is to act in what was left.
    operations = [migrations.RunPython(take_off, migrations.RunPython.noop)]
