from django.db import migrations

BATCH = """
    UPDATE group_memberships SET tenant_id = groups.tenant_id FROM groups
    WHERE groups.id = group_id AND group_memberships.id IN (
        SELECT id FROM group_memberships WHERE tenant_id IS NULL ORDER BY id LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED
    )
"""


def fill(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        while True:
            cursor.execute(BATCH)
            if not cursor.rowcount:
                cursor.execute("SELECT count(*) FROM group_memberships WHERE tenant_id IS NULL")
                if cursor.fetchone() == (0,):
                    return


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("tenancy", "0014_group_memberships_tenant")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
