"""Django's SQL without a server is the SQL that Django sends to one."""

import pytest
from django.contrib.postgres.operations import AddConstraintNotValid, CreateExtension, RemoveIndexConcurrently
from django.db import connection, migrations, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from keyhub.lintmigrations.django_migrations import project_steps
from keyhub.lintmigrations.offline import editor_for
from keyhub.sql_text import normalized, statements


@pytest.mark.once
def test_the_projects_migrations(connected_to, migrated_database):
    """What sqlmigrate writes, with the names of the server's constraints and its way to quote."""
    with connected_to(migrated_database):
        loader = MigrationLoader(connection, replace_migrations=False)
    steps = {step.name: step for step in project_steps()}
    for (app_label, name), migration in loader.graph.nodes.items():
        step = steps.get(f"{app_label}.{name}")
        if step is None or step.python:
            continue
        with connected_to(migrated_database):
            asked = MigrationExecutor(connection).loader.collect_sql([(migration, False)])
        text = "\n".join(line for line in asked if not line.startswith("--") and line not in ("BEGIN;", "COMMIT;"))
        assert sorted(normalized(statement.text) for statement in step.up) == sorted(
            normalized(statement) for statement in statements(text)
        )


BADGE = migrations.CreateModel(
    "Badge",
    [
        ("id", models.BigAutoField(primary_key=True)),
        ("label", models.CharField(max_length=20, unique=True)),
        ("size", models.PositiveIntegerField(db_index=True)),
        ("parent", models.ForeignKey("shop.Badge", models.CASCADE, null=True)),
    ],
    options={
        "db_table": "badges",
        "unique_together": {("label", "size")},
        "indexes": [models.Index(fields=["size"], name="idx_size")],
    },
)


# What Django asks of the server's catalogue on the way is sent as well, and left out here.
SENT = [
    (
        migrations.AlterField("badge", "label", models.CharField(max_length=20)),
        ['ALTER TABLE "badges" DROP CONSTRAINT "badges_label"', 'DROP INDEX IF EXISTS "badges_label_a9aee7c2_like"'],
    ),
    (
        migrations.AlterField("badge", "size", models.IntegerField()),
        ['DROP INDEX IF EXISTS "badges_size"', 'ALTER TABLE "badges" DROP CONSTRAINT "badges_size"'],
    ),
    (
        migrations.AlterField("badge", "parent", models.BigIntegerField(null=True)),
        [
            'SET CONSTRAINTS "badges_parent_id" IMMEDIATE; ALTER TABLE "badges" DROP CONSTRAINT "badges_parent_id"',
            'DROP INDEX IF EXISTS "badges_parent_id"',
            'ALTER TABLE "badges" RENAME COLUMN "parent_id" TO "parent"',
        ],
    ),
    (
        migrations.AlterField("badge", "id", models.UUIDField(primary_key=True)),
        [
            'SET CONSTRAINTS "badges_parent_id" IMMEDIATE; ALTER TABLE "badges" DROP CONSTRAINT "badges_parent_id"',
            'ALTER TABLE "badges" ALTER COLUMN "id" DROP IDENTITY IF EXISTS',
            'ALTER TABLE "badges" ALTER COLUMN "id" TYPE uuid USING "id"::uuid',
            'ALTER TABLE "badges" ALTER COLUMN "parent_id" TYPE uuid USING "parent_id"::uuid',
            'ALTER TABLE "badges" ADD CONSTRAINT "badges_parent_id_d2e43f65_fk" FOREIGN KEY ("parent_id") REFERENCES '
            '"badges" ("id") DEFERRABLE INITIALLY DEFERRED',
        ],
    ),
    (
        migrations.AlterUniqueTogether("badge", set()),
        ['ALTER TABLE "badges" DROP CONSTRAINT "badges_label_size"'],
    ),
    (migrations.RenameField("badge", "size", "width"), ['ALTER TABLE "badges" RENAME COLUMN "size" TO "width"']),
    (migrations.AlterModelTable("badge", "marks"), ['ALTER TABLE "badges" RENAME TO "marks"']),
    (
        AddConstraintNotValid("badge", models.CheckConstraint(condition=models.Q(label__lt="50%'"), name="low")),
        ['ALTER TABLE "badges" ADD CONSTRAINT "low" CHECK ("label" < \'50%\'\'\') NOT VALID'],
    ),
    (RemoveIndexConcurrently("badge", "idx_size"), ['DROP INDEX CONCURRENTLY IF EXISTS "idx_size"']),
    (CreateExtension("citext"), ['CREATE EXTENSION IF NOT EXISTS "citext"']),
    (
        migrations.RunSQL(["DELETE FROM a WHERE b LIKE '50%'", ("DELETE FROM c WHERE d = %s", [5])]),
        ["DELETE FROM a WHERE b LIKE '50%'", "DELETE FROM c WHERE d = 5"],
    ),
    (migrations.DeleteModel("Badge"), ['DROP TABLE "badges" CASCADE']),
]


@pytest.mark.parametrize(("operation", "expected"), SENT)
def test_operations_that_ask_the_server_on_the_way(operation, expected):
    before = ProjectState()
    BADGE.state_forwards("shop", before)
    after = before.clone()
    operation.state_forwards("shop", after)
    sent = editor_for("shop").sent_by(operation, "shop", before, after)
    assert [text for text in sent if not text.strip().startswith("SELECT")] == expected


def test_an_operation_that_needs_a_server_gets_none():
    class Counted(migrations.RunSQL):
        def database_forwards(self, app_label, schema_editor, from_state, to_state):
            connection.ensure_connection()

    state = ProjectState()
    with pytest.raises(RuntimeError, match=r"^it needs a database to say what it would do$"):
        editor_for("shop").sent_by(Counted("SELECT 1"), "shop", state, state)


def test_an_operation_that_asks_by_itself_finds_an_empty_database():
    class Asking(migrations.RunSQL):
        def database_forwards(self, app_label, schema_editor, from_state, to_state):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM badges WHERE size = %s", [5])
                assert (list(cursor), cursor.fetchone(), cursor.fetchall()) == ([], None, [])

    state = ProjectState()
    sent = editor_for("shop").sent_by(Asking("SELECT 1"), "shop", state, state)
    assert sent == ["SELECT 1 FROM badges WHERE size = %s"]
