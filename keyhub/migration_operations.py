"""Operations for migrations. Old migrations run through them: what they do for given arguments must never change."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from django.apps import apps
from django.contrib.postgres import operations as postgres
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


class ValidateConstraint(postgres.ValidateConstraint):
    """Django's ValidateConstraint with a way back: a valid constraint is taken away and put back NOT VALID."""

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            constraint = to_state.models[app_label, self.model_name.lower()].get_constraint_by_name(self.name)
            schema_editor.remove_constraint(model, constraint)
            schema_editor.execute(f"{constraint.create_sql(model, schema_editor)} NOT VALID", params=None)


REFUSE_ROWS = """DO $refuse_rows$
DECLARE
    offending bigint;
    shown text;
BEGIN
    SELECT count(*), string_agg(line, ', ') FILTER (WHERE place <= 10) INTO offending, shown
    FROM (SELECT row_number() OVER () AS place, row_to_json(broken)::text AS line FROM ({query}) AS broken) AS listed;
    IF offending > 0 THEN
        RAISE check_violation USING
            TABLE = '{table}', CONSTRAINT = '{rule}',
            MESSAGE = format('%s: %s %s: %s%s. List with: %s;',
                '{table}', CASE offending WHEN 1 THEN '1 row breaks' ELSE offending || ' rows break' END, '{rule}',
                shown, CASE WHEN offending > 10 THEN ', …' ELSE '' END, $query${query}$query$);
    END IF;
END
$refuse_rows$"""


class RefuseRows(Operation):
    """Go no further where rows of `table` break a rule to come: say how many, show ten of them and how to list all.

    `where` is the condition of a row that breaks it, `columns` are what shows which row it is, both in SQL. The rows
    are read before the locks of what follows are taken. Raises django.db.IntegrityError with the SQLSTATE 23514.
    """

    reduces_to_sql = True
    reversible = True

    def __init__(self, table: str, rule: str, where: str, columns: str = "id"):
        self.table, self.rule, self.where, self.columns = table, rule, where, columns

    def deconstruct(self):
        return type(self).__name__, [], {name: getattr(self, name) for name in ("table", "rule", "where", "columns")}

    def state_forwards(self, app_label, state):
        pass

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if router.allow_migrate(schema_editor.connection.alias, app_label):
            schema_editor.execute(self._sql(), params=None)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        pass

    def _sql(self) -> str:
        query = f"SELECT {self.columns} FROM {self.table} WHERE {self.where}"  # noqa: S608 the migration's own words
        return REFUSE_ROWS.format(table=self.table, rule=self.rule, query=query)

    def describe(self) -> str:
        return f"Refuse rows of {self.table} that break {self.rule}"


def with_nested(operations: Iterable[Operation]) -> Iterator[Operation]:
    """The operations, and those that SeparateDatabaseAndState runs, however deep."""
    for operation in operations:
        yield operation
        if isinstance(operation, SeparateDatabaseAndState):
            yield from with_nested(operation.database_operations)
