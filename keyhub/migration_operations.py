"""Operations for migrations. Old migrations run through them: what they do for given arguments must never change."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from django.apps import apps
from django.db import router
from django.db.migrations.operations import SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation

from keyhub.sql_text import statements


class RunSQLFile(Operation):
    """Run `<app>/sql/<name>.up.sql`, and `<app>/sql/<name>.down.sql` on the way back.

    For what Django cannot say: triggers, functions, partitions. Its statements are sent as they are, one by one, so `%`
    means itself. Raises FileNotFoundError where a file is missing.
    """

    reduces_to_sql = True
    reversible = True

    def __init__(self, name: str, state_operations: list[Operation] | None = None):
        self.name = name
        self.state_operations = state_operations or []

    def deconstruct(self):
        kwargs = {"name": self.name}
        if self.state_operations:
            kwargs["state_operations"] = self.state_operations
        return type(self).__name__, [], kwargs

    def path(self, app_label: str, direction: str) -> Path:
        """Return the file for a direction, `up` or `down`."""
        return Path(apps.get_app_config(app_label).path) / "sql" / f"{self.name}.{direction}.sql"

    def state_forwards(self, app_label, state):
        for operation in self.state_operations:
            operation.state_forwards(app_label, state)

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        self._run(app_label, "up", schema_editor)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        self._run(app_label, "down", schema_editor)

    def _run(self, app_label, direction, schema_editor):
        if router.allow_migrate(schema_editor.connection.alias, app_label):
            # Django keeps constraints and indexes back until the migration's end; the file is to see whole tables.
            while schema_editor.deferred_sql:
                schema_editor.execute(schema_editor.deferred_sql.pop(0), params=None)
            for statement in statements(self.path(app_label, direction).read_text(encoding="utf-8")):
                schema_editor.execute(statement, params=None)

    def describe(self) -> str:
        return f"Run {self.name}.up.sql"


def with_nested(operations: Iterable[Operation]) -> Iterator[Operation]:
    """The operations, and those that SeparateDatabaseAndState runs, however deep."""
    for operation in operations:
        yield operation
        if isinstance(operation, SeparateDatabaseAndState):
            yield from with_nested(operation.database_operations)
