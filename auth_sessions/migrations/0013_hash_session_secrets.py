from django.db import migrations

# What looks like a digest is taken for one, so that a run after a kill hashes nothing twice.
BATCH = """
    WITH batch AS MATERIALIZED (
        SELECT id FROM {table} WHERE id > %s AND {column} !~ '^[0-9a-f]{{64}}$' ORDER BY id LIMIT 1000 FOR UPDATE
    ), hashed AS (
        UPDATE {table} SET {column} = encode(sha256(convert_to({column}, 'UTF8')), 'hex')
        FROM batch WHERE {table}.id = batch.id
        RETURNING {table}.id
    )
    SELECT id FROM hashed ORDER BY id DESC LIMIT 1
"""
BEFORE_ALL = "00000000-0000-0000-0000-000000000000"


def hash_secrets(apps, schema_editor):
    """By the primary key, so that no batch reads again what an earlier one has done. Each commits by itself."""
    with schema_editor.connection.cursor() as cursor:
        for table, column in (
            ("sessions", "session_id"),
            ("console_sessions", "session_id"),
            ("oauth_states", "state"),
        ):
            last = (BEFORE_ALL,)
            while last:
                cursor.execute(BATCH.format(table=table, column=column), last)
                last = cursor.fetchone()


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("auth_sessions", "0012_session_secrets_not_valid")]
    # A digest has no way back: the rows stay as they are.
    operations = [migrations.RunPython(hash_secrets, migrations.RunPython.noop)]
