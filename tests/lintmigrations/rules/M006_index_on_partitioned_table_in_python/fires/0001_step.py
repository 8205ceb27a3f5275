from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [
        migrations.SeparateDatabaseAndState(
            [
                migrations.RunSQL(
                    "CREATE TABLE events (id uuid, at timestamptz NOT NULL) PARTITION BY RANGE (at)",
                    "DROP TABLE events",
                ),
                migrations.RunSQL("CREATE TABLE events_default PARTITION OF events DEFAULT", migrations.RunSQL.noop),
            ],
            [
                migrations.CreateModel(
                    name="Event",
                    fields=[("id", models.UUIDField(primary_key=True)), ("at", models.DateTimeField())],
                    options={"db_table": "events"},
                )
            ],
        )
    ]
