"""A step can be run, undone and run again: the source's DO, and its DON'T of schema and data together."""

import ast
from collections.abc import Iterator

from django.db.migrations.operations import RunPython

from keyhub.lintmigrations import actions
from keyhub.lintmigrations.findings import Complaint, Place
from keyhub.lintmigrations.python_source import PythonSource
from keyhub.lintmigrations.rules.registry import History, Scene, on_history, on_statement, on_step
from keyhub.lintmigrations.statements import Statement
from keyhub.lintmigrations.steps import Step


@on_step("keyhub.M001")
def schema_and_data(scene: Scene) -> Iterator[Complaint]:
    """Locks of a schema change are held until the transaction ends, with them all rows' writing.

    https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
    """
    changes = [statement for statement in scene.step.up if _changes_schema(statement)]
    writes = [(statement.place, statement.head) for statement in scene.step.up if _writes_rows(statement)]
    writes += [
        (place, "RunPython") for operation, place in scene.step.python if _may_write(scene.step.source, operation)
    ]
    if changes and writes:
        place, head = min(writes)
        yield Complaint(
            place,
            f"{scene.title} changes the schema ({changes[0].head}) and writes rows ({head}): the locks of the one are "
            "held while the other runs.",
            "Move what writes rows into a migration of its own that depends on this one.",
        )


# Calls by which Django and a cursor write.
WRITING_CALLS = {
    "bulk_create", "bulk_update", "copy", "create", "delete", "executemany", "get_or_create", "save", "update",
    "update_or_create",
}  # fmt: skip


def _may_write(source: PythonSource, operation: RunPython) -> bool:
    """Say whether a function may write rows: all but one that stands in the file and calls nothing that writes."""
    calls = list(source.calls(operation.code))
    names = [call.func.attr for call in calls if isinstance(call.func, ast.Attribute)]
    texts = [text for text, _ in source.sql(operation.code)]
    only_selects = all(text.split()[:1] == ["SELECT"] for text in texts) and len(texts) == names.count("execute")
    return not source.defines(operation.code) or bool(WRITING_CALLS & set(names)) or not only_selects


def _changes_schema(statement: Statement) -> bool:
    return any(not isinstance(action, actions.WriteRows) for action in statement.actions)


def _writes_rows(statement: Statement) -> bool:
    return any(
        isinstance(action, actions.WriteRows) or (isinstance(action, actions.CreateTable) and action.from_query)
        for action in statement.actions
    )


@on_step("keyhub.M002")
def no_way_back(scene: Scene) -> Iterator[Complaint]:
    """https://docs.djangoproject.com/en/5.2/ref/migration-operations/#django.db.migrations.operations.RunPython"""
    yield from scene.step.dead_ends


@on_statement("keyhub.M028")
def insert_not_repeatable(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """A second run finds the rows of the first: https://www.postgresql.org/docs/current/sql-insert.html#SQL-ON-CONFLICT"""
    for action in statement.actions:
        if isinstance(action, actions.WriteRows) and not action.is_repeatable:
            yield Complaint(
                statement.place,
                f"{scene.title} fails where its rows of {action.table} are there already: it inserts without asking.",
                "End the INSERT with ON CONFLICT DO NOTHING.",
            )


@on_step("keyhub.M028")
def create_not_repeatable(scene: Scene) -> Iterator[Complaint]:
    """https://docs.djangoproject.com/en/5.2/ref/models/querysets/#get-or-create"""
    for operation, _ in scene.step.python:
        for call in scene.step.source.calls(operation.code):
            mend = _repeatable_call(call)
            if mend:
                yield Complaint(
                    Place(scene.step.path, call.lineno),
                    f"{scene.title} fails, or writes twice, where its rows are there already: it calls "
                    f"{call.func.attr}().",
                    mend,
                )


def _repeatable_call(call: ast.Call) -> str:
    given = {keyword.arg for keyword in call.keywords}
    match getattr(call.func, "attr", ""):
        case "create" if isinstance(call.func.value, ast.Attribute | ast.Call):
            return "Call get_or_create(), with what makes the row unique outside of defaults."
        case "bulk_create" if not given & {"ignore_conflicts", "update_conflicts"}:
            return "Call bulk_create(…, ignore_conflicts=True)."
    return ""


@on_history("keyhub.M027")
def key_that_nothing_fills(history: History) -> Iterator[tuple[int, Complaint]]:
    """A key to a table younger than the referring column: its old values stand nowhere yet.

    https://www.postgresql.org/docs/current/ddl-constraints.html#DDL-CONSTRAINTS-FK
    """
    for table in history.catalogue.tables.values():
        for key in table.foreign_keys:
            target = history.catalogue.table(key.references)
            columns = [table.columns.get(name) for name in key.columns]
            newest = max((column.born if column else table.born) for column in columns)
            if not newest < target.born <= key.moment or newest == key.moment:
                continue
            if any(_fills(step, target.name, table.name) for step in history.steps[target.born : key.moment + 1]):
                continue
            names = ", ".join(key.columns)
            yield (
                key.moment,
                Complaint(
                    key.place,
                    f"{history.title(key.moment)} makes {table.name} ({names}) refer to {target.name}, which is the "
                    f"younger table, and nothing fills it from {table.name} before: a value that is missing there "
                    "makes the key fail.",
                    f"In a migration between:\nINSERT INTO {target.name} (…) SELECT DISTINCT {names}, … "  # noqa: S608 a text
                    f"FROM {table.name} ON CONFLICT DO NOTHING;",
                ),
            )


def _fills(step: Step, target: str, source: str) -> bool:
    """What a RunPython does with models is not read, and trusted."""
    return bool(step.python) or any(
        isinstance(action, actions.WriteRows) and action.table == target and source in action.mentions
        for statement in step.up
        for action in statement.actions
    )
