"""Migrations run without rendering models: the same statements and the same state of the models as by Django itself."""

import re

import pytest
from django.db import connection, migrations, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ModelState, ProjectState

from keyhub.migrate.lean import LeanExecutor, without_words

TEXT = models.CharField("name", max_length=10, help_text="What it is called")
EVERYTHING = None
SOMETHING = [("tenancy", "0003_groups"), ("audit", None)]
NOTHING = [(app, None) for app in ("keyhub", "audit", "orgs", "axes", "accounts", "contenttypes", "sessions")]
# Numbers of savepoints, and times.
OF_THE_MOMENT = re.compile(r"""s\d+_x\d+|'\d{4}-\d\d-\d\d \d\d:[^']+'""")


def statements_of(executor: MigrationExecutor, targets: list | None) -> list[str]:
    """Migrate, and return what was run."""
    statements = []

    def note(execute, sql, params, many, context):
        statements.append(OF_THE_MOMENT.sub("", str(sql)))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        state = executor.migrate(targets or executor.loader.graph.leaf_nodes())
    if isinstance(executor, LeanExecutor):  # Django's own, on its way back to nothing, gives another one
        executor.loader.build_graph()
        assert state == executor._create_project_state(with_applied_migrations=True)
    return statements


@pytest.mark.once
@pytest.mark.long
def test_the_statements_and_the_models_are_djangos(connected_to, empty_database):
    with connected_to(empty_database):
        MigrationRecorder(connection).ensure_schema()
        ways = [EVERYTHING, NOTHING]
        lean = [statements_of(LeanExecutor(connection), targets) for targets in ways]
        assert lean == [statements_of(MigrationExecutor(connection), targets) for targets in ways]
        assert len(lean[0]) > len(lean[1]) > 300
        for targets in (EVERYTHING, SOMETHING):
            statements_of(LeanExecutor(connection), targets)


@pytest.mark.parametrize(
    ("field", "is_of_words"),
    [
        (models.CharField("title", max_length=10), True),
        (models.CharField(max_length=10, choices=[("a", "A")]), True),
        (models.CharField("name", max_length=11, help_text="What it is called"), False),
        (models.CharField("name", max_length=10, null=True, help_text="What it is called"), False),
        (models.TextField("name", help_text="What it is called"), False),
        (models.CharField("name", max_length=10, db_column="title", help_text="What it is called"), False),
    ],
)
def test_words_alone(field, is_of_words):
    state = ProjectState()
    state.add_model(ModelState("app", "Thing", [("name", TEXT)]))
    migration = migrations.Migration("0002", "app")
    migration.operations = [
        migrations.AlterModelOptions("thing", {"verbose_name": "thing"}),
        migrations.AlterField("Thing", "name", field),
    ]
    lean = without_words(migration, state)
    assert (lean is not migration) is is_of_words
    assert lean == migration  # by its name, as plans know it
    assert lean.mutate_state(state) == migration.mutate_state(state)
