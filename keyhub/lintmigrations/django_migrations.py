"""The project's own migrations as steps, without a database."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from django.conf import settings
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration
from django.db.migrations.operations import RunPython, RunSQL, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import Model

from keyhub.lintmigrations import actions
from keyhub.lintmigrations.allowances import read_allowances
from keyhub.lintmigrations.findings import Complaint, LintError, Place
from keyhub.lintmigrations.offline import OfflineSchemaEditor, editor_for
from keyhub.lintmigrations.python_source import PythonSource
from keyhub.lintmigrations.statements import Statement, read_generated, read_script
from keyhub.lintmigrations.steps import Step
from keyhub.migration_operations import RunSQLFile

# A step that does one of these is asked what the models were before it.
TAKES_AWAY = (actions.DropColumn, actions.RenameColumn, actions.DropTable, actions.RenameTable)
INSTALLED = {"site-packages", "dist-packages"}
NOTHING_TO_UNDO = {RunPython: "reverse_code", RunSQL: "reverse_sql"}


def project_steps() -> list[Step]:
    """Read the migrations below BASE_DIR in an order in which `migrate` runs them. Raises LintError."""
    try:
        loader = MigrationLoader(connection=None)
    except SyntaxError as error:
        where = f"{shown(Path(error.filename))}:{error.lineno}"
        raise LintError(f"{where} cannot be read as Python: {error.msg}.") from error
    except Exception as error:
        raise LintError(f"the migrations cannot be loaded: {_reason(error)}.") from error
    plan: dict[tuple[str, str], None] = {}
    for leaf in loader.graph.leaf_nodes():
        plan |= dict.fromkeys(loader.graph.forwards_plan(leaf))
    state = ProjectState(real_apps=loader.unmigrated_apps)
    return list(steps_of((loader.graph.nodes[key] for key in plan), state))


def steps_of(migrations: Iterable[Migration], state: ProjectState) -> Iterator[Step]:
    """Yield a step for each migration that is the project's own; the state follows all of them."""
    for migration in migrations:
        path = Path(sys.modules[type(migration).__module__].__file__)
        if path.is_relative_to(settings.BASE_DIR) and not INSTALLED & set(path.parts):
            yield _step(migration, path, state)
        else:
            migration.mutate_state(state, preserve=False)


def shown(path: Path) -> Path:
    """A path as messages write it."""
    return path.relative_to(settings.BASE_DIR) if path.is_relative_to(settings.BASE_DIR) else path


def columns_by_table(models: Iterable[type[Model]]) -> dict[str, set[str]]:
    """The columns that models use, by table."""
    tables: dict[str, set[str]] = {}
    for model in models:
        columns = {field.column for field in model._meta.local_concrete_fields}
        tables.setdefault(model._meta.db_table, set()).update(columns)
    return tables


def _step(migration: Migration, path: Path, state: ProjectState) -> Step:
    label = migration.app_label
    number = migration.name.partition("_")[0]
    source = PythonSource.read(path)
    step = Step(f"{label}.{migration.name}", f"{label} {number}", shown(path), migration.atomic, source=source)
    step.allowances += read_allowances(source.text, step.path)
    lines = source.operation_lines
    if len(lines) != len(migration.operations):
        lines = [source.class_line] * len(migration.operations)
    editor = editor_for(label)
    before_all = state.clone()
    for operation, line in zip(migration.operations, lines, strict=True):
        place = Place(step.path, line)
        by_hand: dict[str, Statement] = {}
        for inner in _flattened(operation):
            if isinstance(inner, RunSQLFile):
                by_hand |= {statement.text: statement for statement in _read_file(inner, label, "up", place, step)}
                step.down += _read_file(inner, label, "down", place, step)
            elif isinstance(inner, RunSQL) and isinstance(inner.reverse_sql, str):
                step.down += read_generated(inner.reverse_sql, place, inner)
            elif isinstance(inner, RunPython) and inner.code is not RunPython.noop:
                step.python.append((inner, place))
                step.up += _constant_sql(inner, step)
            if not inner.reversible:
                step.dead_ends.append(_dead_end(inner, place, step))
        before = state.clone()
        operation.state_forwards(label, state)
        for text in _sent(operation, label, editor, before, state, place):
            step.up += [by_hand[text]] if text in by_hand else read_generated(text, place, operation)
    made = {type(action) for statement in step.up for action in statement.actions}
    if actions.CreateTable in made:
        models = state.apps.get_models(include_auto_created=True)
        step.django_tables = {model._meta.db_table for model in models if model._meta.auto_created}
    if made.intersection(TAKES_AWAY):
        step.columns_before = columns_by_table(before_all.apps.get_models(include_auto_created=True))
    return step


def _flattened(operation: Operation) -> Iterator[Operation]:
    """The operations that touch the database."""
    if isinstance(operation, SeparateDatabaseAndState):
        for inner in operation.database_operations:
            yield from _flattened(inner)
    else:
        yield operation


def _sent(
    operation: Operation,
    label: str,
    editor: OfflineSchemaEditor,
    before: ProjectState,
    after: ProjectState,
    place: Place,
) -> list[str]:
    """The statements that an operation sends."""
    if not operation.reduces_to_sql:
        return []
    try:
        return editor.sent_by(operation, label, before, after)
    except Exception as error:
        raise LintError(f"{place.path}:{place.line} cannot be turned into SQL: {_reason(error)}.") from error


def _constant_sql(operation: RunPython, step: Step) -> list[Statement]:
    """The constant SQL that the function executes. What it puts together is not read."""
    found: list[Statement] = []
    for text, line in step.source.sql(operation.code):
        try:
            found += read_generated(text, Place(step.path, line), operation)
        except LintError:
            continue  # it has holes that are filled when it runs
    return found


def _read_file(operation: RunSQLFile, label: str, direction: str, place: Place, step: Step) -> list[Statement]:
    """The statements of a file. The way back may be missing, which is a finding; the way up may not."""
    path = operation.path(label, direction)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if direction == "up":
            raise LintError(f"{shown(path)} does not exist, and {place.path}:{place.line} runs it.") from error
        problem = f"{step.title} has no way back: it runs {operation.name}.up.sql, and there is no {path.name}."
        step.dead_ends.append(Complaint(place, problem, f"Write {shown(path)}, which undoes it."))
        return []
    except UnicodeDecodeError as error:
        raise LintError(f"{shown(path)} cannot be read: it is not UTF-8.") from error
    step.allowances += read_allowances(text, shown(path))
    return read_script(text, shown(path))


def _dead_end(operation: Operation, place: Place, step: Step) -> Complaint:
    kind = type(operation).__name__
    argument = NOTHING_TO_UNDO.get(type(operation))
    if argument is None:
        problem = f"{step.title} has no way back: {kind} is not reversible."
        return Complaint(place, problem, "Use an operation that can be undone.")
    return Complaint(
        place,
        f"{step.title} has no way back: {kind} is given no {argument}.",
        f"Give it a {argument} that undoes it, or {kind}.noop where nothing is to be undone.",
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
