"""From the source's catalogue to the reference, online: each function mends one kind of object.

Each reads what is there now and does what is still to be done, so an adoption that was killed is simply run again.
"""

from pathlib import Path

from django.apps import apps
from django.db import IntegrityError

from keyhub import sql_text
from keyhub.adopt import rules
from keyhub.adopt.catalogue import Catalogue, Constraint, Index, Table, read
from keyhub.adopt.comparison import OWN_PREFIX, leftovers, needs_rebuild, own_indexes
from keyhub.adopt.rebuild import drop_replaced, rebuild
from keyhub.adopt.steps import Steps
from keyhub.dbversion.version_list import Version
from keyhub.migrate.executor import RefusedError


def convert(steps: Steps, schema: str, reference: Catalogue, versions: list[Version]) -> None:
    """Bring the schema to the reference. Raises RefusedError, LockNotGotError; run again, it goes on from there."""
    functions(steps, read(steps.connection, schema), reference)
    missing_tables(steps, read(steps.connection, schema), reference)
    columns(steps, read(steps.connection, schema), reference)
    live = read(steps.connection, schema)
    for name, expected in reference.tables.items():
        if needs_rebuild(live.tables[name], expected):
            rebuild(steps, schema, live.tables[name], expected, own_indexes(live.tables[name], expected))
    drop_replaced(steps)
    live = read(steps.connection, schema)
    for name, expected in reference.tables.items():
        for constraint in expected.constraints_of("u"):
            unique_constraint(steps, live.tables[name], expected, constraint)
        for index in expected.indexes.values():
            own_index(steps, live.tables[name], index)
    fills = [path for version in versions for path in data_files(version)]
    fill(steps, fills)
    for name, expected in reference.tables.items():
        for constraint in expected.constraints_of("c", "f"):
            unvalidated_constraint(steps, live.tables[name], reference, constraint)
    # Again: an organization that a writer brought before the keys were there.
    fill(steps, fills)
    validate(steps, read(steps.connection, schema), reference)
    triggers(steps, read(steps.connection, schema), reference)
    drop_leftovers(steps, read(steps.connection, schema), reference)


def functions(steps: Steps, live: Catalogue, reference: Catalogue) -> None:
    for name, definition in reference.functions.items():
        if live.functions.get(name) != definition:
            steps.run(f"function {name} is KeyHub's", definition)


def missing_tables(steps: Steps, live: Catalogue, reference: Catalogue) -> None:
    for table in reference.tables.values():
        if table.name not in live.tables:
            steps.run(f"table {table.name} is made", *table_statements(steps, table))


def table_statements(steps: Steps, table: Table) -> list[str]:
    """What makes a table but for its foreign keys and triggers."""
    quote = steps.connection.ops.quote_name
    lines = [f"{quote(column.name)} {column.definition}" for column in table.columns.values()]
    lines += [
        f"CONSTRAINT {quote(constraint.name)} {constraint.definition}"
        for constraint in table.constraints_of("p", "u", "c")
    ]
    return [
        f"CREATE TABLE {quote(table.name)} ({', '.join(lines)})",
        *(index_statement(steps, table.name, index, index.name) for index in table.indexes.values()),
    ]


def index_statement(steps: Steps, table: str, index: Index, name: str, concurrently: bool = False) -> str:
    quote = steps.connection.ops.quote_name
    unique, method = ("UNIQUE ", index.definition[7:]) if index.is_unique else ("", index.definition)
    return (
        f"CREATE {unique}INDEX {'CONCURRENTLY ' if concurrently else ''}{quote(name)} ON {quote(table)} USING {method}"
    )


def columns(steps: Steps, live: Catalogue, reference: Catalogue) -> None:
    """Columns that are missing, and defaults: one short statement for each table."""
    quote = steps.connection.ops.quote_name
    for name, expected in reference.tables.items():
        table = live.tables[name]
        if needs_rebuild(table, expected):
            continue
        actions = []
        for column in expected.columns.values():
            found = table.columns.get(column.name)
            if found is None:
                # A default that is not volatile is stored once: the rows are not rewritten.
                actions.append(f"ADD COLUMN {quote(column.name)} {column.definition}")
            elif found.default != column.default:
                change = "DROP DEFAULT" if column.default is None else f"SET DEFAULT {column.default}"
                actions.append(f"ALTER COLUMN {quote(column.name)} {change}")
        if actions:
            steps.run(
                f"{name}: columns and defaults are as they should be",
                f"ALTER TABLE {quote(name)} {', '.join(actions)}",
            )


def unique_constraint(steps: Steps, table: Table, expected: Table, constraint: Constraint) -> None:
    quote = steps.connection.ops.quote_name
    found = table.constraints.get(constraint.name)
    if found and found.definition == constraint.definition:
        return
    # The source's own constraint under PostgreSQL's name, beside an index that repeats it: one of the two stays.
    for other in table.constraints_of("u"):
        if other.definition == constraint.definition and other.name not in expected.constraints:
            steps.run(
                f"{table.name}: constraint {other.name} is called {constraint.name}, in place of an index",
                *_drop_holder(steps, table, constraint.name),
                f"ALTER TABLE {quote(table.name)} RENAME CONSTRAINT {quote(other.name)} TO {quote(constraint.name)}",
            )
            return
    names = ", ".join(quote(column) for column in constraint.columns)
    index = Index(constraint.name, f"UNIQUE btree ({names})", True, True, constraint.columns, None)
    built = _built_beside(steps, table, index)
    steps.run(
        f"{table.name}: constraint {constraint.name} is there",
        *_drop_holder(steps, table, constraint.name),
        f"ALTER TABLE {quote(table.name)} ADD CONSTRAINT {quote(constraint.name)} UNIQUE USING INDEX {quote(built)}",
    )


def own_index(steps: Steps, table: Table, index: Index) -> None:
    quote = steps.connection.ops.quote_name
    found = table.indexes.get(index.name)
    if found and found.definition == index.definition and found.is_valid:
        return
    built = _built_beside(steps, table, index)
    steps.run(
        f"{table.name}: index {index.name} is there",
        *_drop_holder(steps, table, index.name),
        f"ALTER INDEX {quote(built)} RENAME TO {quote(index.name)}",
    )


def _drop_holder(steps: Steps, table: Table, name: str) -> list[str]:
    """What frees a name that an index of the table bears, by itself or for a constraint."""
    quote = steps.connection.ops.quote_name
    if name in table.constraints:
        return [f"ALTER TABLE {quote(table.name)} DROP CONSTRAINT {quote(name)}"]
    return [f"DROP INDEX {quote(name)}"] if name in table.indexes else []


def _built_beside(steps: Steps, table: Table, index: Index) -> str:
    """Build an index CONCURRENTLY under a name of adopting's own, so that the old one serves until then."""
    name = OWN_PREFIX + index.name
    left = table.indexes.get(name)
    if left and not (left.is_valid and left.definition == index.definition):
        quoted = steps.connection.ops.quote_name(name)
        steps.run_patiently(
            f"{table.name}: index {name}, left by an interrupted build, is dropped",
            f"DROP INDEX CONCURRENTLY {quoted}",
        )
        left = None
    if left is None:
        try:
            steps.run_patiently(
                f"{table.name}: index {index.name} is built",
                index_statement(steps, table.name, index, name, concurrently=True),
            )
        except IntegrityError as error:
            raise RefusedError(
                f"{table.name}: rows that came meanwhile break the rule {index.name}. Run this again for the list."
            ) from error
    return name


def unvalidated_constraint(steps: Steps, table: Table, reference: Catalogue, constraint: Constraint) -> None:
    """A CHECK or a foreign key: renamed where it is there under another name, else added NOT VALID."""
    quote = steps.connection.ops.quote_name
    expected = reference.tables[table.name]
    found = table.constraints.get(constraint.name)
    if found and found.definition == constraint.definition:
        return
    change = f"ALTER TABLE {quote(table.name)}"
    for other in table.constraints_of(constraint.kind):
        if not found and other.definition == constraint.definition and other.name not in expected.constraints:
            steps.run(
                f"{table.name}: constraint {other.name} is called {constraint.name}",
                f"{change} RENAME CONSTRAINT {quote(other.name)} TO {quote(constraint.name)}",
            )
            return
    steps.run(
        f"{table.name}: constraint {constraint.name} is kept from now on",
        *([f"{change} DROP CONSTRAINT {quote(constraint.name)}"] if found else []),
        f"{change} ADD CONSTRAINT {quote(constraint.name)} {constraint.definition} NOT VALID",
    )


def validate(steps: Steps, live: Catalogue, reference: Catalogue) -> None:
    quote = steps.connection.ops.quote_name
    for name, expected in reference.tables.items():
        for constraint in live.tables[name].constraints.values():
            if constraint.is_valid or constraint.name not in expected.constraints:
                continue
            try:
                steps.run_patiently(
                    f"{name}: constraint {constraint.name} is validated",
                    f"ALTER TABLE {quote(name)} VALIDATE CONSTRAINT {quote(constraint.name)}",
                )
            except IntegrityError as error:
                found = rules.broken(steps.connection, rules.new_rules(live, reference))
                raise RefusedError("\n".join(found or [f"{name}: rows break the rule {constraint.name}."])) from error


def triggers(steps: Steps, live: Catalogue, reference: Catalogue) -> None:
    quote = steps.connection.ops.quote_name
    for name, expected in reference.tables.items():
        for trigger in expected.triggers.values():
            found = live.tables[name].triggers.get(trigger.name)
            if found == trigger:
                continue
            steps.run(
                f"{name}: trigger {trigger.name} is KeyHub's",
                trigger.made_by.replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER", 1),
                f"ALTER TABLE {quote(name)} ENABLE TRIGGER {quote(trigger.name)}",
            )


def drop_leftovers(steps: Steps, live: Catalogue, reference: Catalogue) -> None:
    quote = steps.connection.ops.quote_name
    for name in reference.tables:
        constraints, indexes = leftovers(live.tables[name], reference)
        for constraint in constraints:
            steps.run(
                f"{name}: constraint {constraint}, which has no place any more, is dropped",
                f"ALTER TABLE {quote(name)} DROP CONSTRAINT {quote(constraint)}",
            )
        for index in indexes:
            steps.run_patiently(
                f"{name}: index {index}, which another one covers, is dropped",
                f"DROP INDEX CONCURRENTLY {quote(index)}",
            )


def data_files(version: Version) -> list[Path]:
    """The SQL files of a version that fill tables, by their name: they run twice without harm."""
    return [
        Path(apps.get_app_config(app_label).path) / "sql" / f"{name}.up.sql"
        for app_label, name in version.migrations
        if "_fill_" in name
    ]


def fill(steps: Steps, paths: list[Path]) -> None:
    for path in paths:
        steps.run(f"{path.name} has run", *sql_text.statements(path.read_text(encoding="utf-8")))
