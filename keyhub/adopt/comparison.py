"""The live catalogue against the reference: what differs, what keeps it from being adopted, what is somebody's own."""

from collections.abc import Iterator

from keyhub.adopt import source
from keyhub.adopt.catalogue import Catalogue, Index, Table

# Names that adopting uses itself, while it is at work.
OWN_PREFIX = "keyhub_adopt_"
# Relations of the runners, which no migration makes.
RUNNERS_TABLES = ("schema_migrations", "django_migrations", "keyhub_migrations")


def differences(live: Catalogue, reference: Catalogue) -> Iterator[str]:
    """One sentence for each object of the reference that the live catalogue lacks, or has otherwise."""
    for name, definition in reference.functions.items():
        if live.functions.get(name) != definition:
            yield f"function {name}: {_difference(live.functions.get(name))}"
    for name, table in reference.tables.items():
        if name not in live.tables:
            yield f"{name}: missing"
            continue
        found = live.tables[name]
        if found.partition_key != table.partition_key:
            yield f"{name}: not partitioned by {table.partition_key}"
        for kind in ("columns", "constraints", "indexes", "triggers"):
            for key, expected in getattr(table, kind).items():
                actual = getattr(found, kind).get(key)
                if actual != expected:
                    yield f"{name}: {_SINGULAR[kind]} {key} {_difference(actual)}"
        for constraint in _leftover_constraints(found, reference):
            yield f"{name}: constraint {constraint} has no place any more"
        for index in _leftover_indexes(found):
            yield f"{name}: index {index} has no place any more"


_SINGULAR = {"columns": "column", "constraints": "constraint", "indexes": "index", "triggers": "trigger"}


def _difference(actual: object) -> str:
    return "is missing" if actual is None else "differs"


def _leftover_constraints(table: Table, reference: Catalogue) -> list[str]:
    expected = reference.tables[table.name].constraints
    return [
        constraint.name
        for constraint in table.constraints.values()
        if constraint.name not in expected
        and (
            source.LEFTOVER_CONSTRAINTS.get((table.name, constraint.name)) == constraint.definition
            or (table.name, constraint.name) in source.LEFT_BEHIND_CONSTRAINTS
        )
    ]


def _leftover_indexes(table: Table) -> list[str]:
    return [
        index.name
        for index in table.indexes.values()
        if source.LEFTOVER_INDEXES.get((table.name, index.name)) == index.definition
    ]


def leftovers(table: Table, reference: Catalogue) -> tuple[list[str], list[str]]:
    """The names of the source's constraints and indexes on a table that are to be dropped."""
    return _leftover_constraints(table, reference), _leftover_indexes(table)


def needs_rebuild(live: Table, reference: Table) -> bool:
    """Say whether the table's new shape is one that only a copy of it can have."""
    return live.name in source.REBUILT and (
        live.partition_key != reference.partition_key or list(live.columns) != list(reference.columns)
    )


def own_indexes(live: Table, reference: Table) -> list[Index]:
    """The indexes of somebody's own."""
    # The name that a constraint of the reference will bear belongs to it.
    return [
        index
        for index in live.indexes.values()
        if index.name not in reference.indexes
        and index.name not in reference.constraints
        and source.LEFTOVER_INDEXES.get((live.name, index.name)) != index.definition
        and not index.name.startswith(OWN_PREFIX)
    ]


def own_objects(live: Catalogue, reference: Catalogue) -> Iterator[str]:
    """One sentence for each object of somebody's own, which is left alone."""
    for name in sorted(set(live.functions) - set(reference.functions)):
        yield f"function {name} is no part of KeyHub"
    for name, table in live.tables.items():
        if name not in reference.tables:
            if name not in RUNNERS_TABLES:
                yield f"table {name} is no part of KeyHub"
            continue
        expected = reference.tables[name]
        extra_columns = [column for column in table.columns if column not in expected.columns]
        for column in extra_columns:
            yield f"{name}: column {column} is no part of KeyHub"
        common = [column for column in table.columns if column in expected.columns]
        if common != [column for column in expected.columns if column in common]:
            yield f"{name}: its columns stand in another order"
        for constraint in own_constraints(table, reference):
            yield f"{name}: constraint {constraint} is no part of KeyHub"
        for index in own_indexes(table, expected):
            yield f"{name}: index {index.name} is no part of KeyHub"
        for trigger in sorted(set(table.triggers) - set(expected.triggers)):
            if not trigger.startswith(OWN_PREFIX):
                yield f"{name}: trigger {trigger} is no part of KeyHub"


def own_constraints(live: Table, reference: Catalogue) -> list[str]:
    """The names of the constraints of somebody's own: neither the source's nor, under another name, KeyHub's."""
    expected = reference.tables[live.name]
    definitions = {constraint.definition for constraint in expected.constraints.values()}
    dropped = set(_leftover_constraints(live, reference))
    return [
        constraint.name
        for constraint in live.constraints.values()
        if constraint.name not in expected.constraints
        and constraint.name not in expected.indexes
        and constraint.definition not in definitions
        and constraint.name not in dropped
        and constraint.kind != "p"
    ]


def refusals(live: Catalogue, reference: Catalogue) -> Iterator[str]:
    """One sentence for each thing for which the tables cannot be taken for the source's."""
    for name, expected in reference.tables.items():
        if name not in live.tables:
            continue
        table = live.tables[name]
        yield from _refuse_foreign_table(table, expected)
        if not needs_rebuild(table, expected):
            continue
        if extra := [column for column in table.columns if column not in expected.columns]:
            yield f"{name}: is made anew, which would lose the column {', '.join(extra)}. Drop it."
        if own := own_constraints(table, reference):
            yield f"{name}: is made anew, which would lose the constraint {', '.join(own)}. Drop it."
        own_triggers = [
            trigger
            for trigger in table.triggers
            if trigger not in expected.triggers and not trigger.startswith(OWN_PREFIX)
        ]
        if own_triggers:
            yield f"{name}: is made anew, which would lose the trigger {', '.join(own_triggers)}. Drop it."
        unique = [index.name for index in own_indexes(table, expected) if index.is_unique]
        if unique and expected.partition_key:
            yield f"{name}: is to be partitioned, which the unique index {', '.join(unique)} forbids. Drop it."


def _refuse_foreign_table(table: Table, expected: Table) -> Iterator[str]:
    if table.kind not in ("r", "p"):
        yield f"{table.name}: is no table. Rename it."
        return
    if table.kind == "p" and not expected.partition_key:
        yield f"{table.name}: is partitioned, which KeyHub's is not."
    if not table.is_logged:
        yield f"{table.name}: is unlogged, so a crash would empty it. ALTER TABLE {table.name} SET LOGGED;"
    for column in expected.columns.values():
        found = table.columns.get(column.name)
        if found is None:
            if (table.name, column.name) not in source.NEW_COLUMNS:
                yield f"{table.name}: the column {column.name} is missing, which the source's table has."
            continue
        if found.type != column.type:
            yield f"{table.name}: the column {column.name} is {found.type}, not {column.type}."
        if found.is_required != column.is_required:
            yield (
                f"{table.name}: the column {column.name} {'may not' if found.is_required else 'may'} be NULL, "
                f"unlike the source's. ALTER TABLE {table.name} ALTER COLUMN {column.name} "
                f"{'DROP' if found.is_required else 'SET'} NOT NULL;"
            )
        if found.is_generated != column.is_generated or found.is_identity != column.is_identity:
            yield f"{table.name}: the column {column.name} is generated in another way."
    if not expected.partition_key:
        keys = [constraint.definition for constraint in table.constraints_of("p")]
        if keys != [constraint.definition for constraint in expected.constraints_of("p")]:
            yield f"{table.name}: its primary key is {keys[0] if keys else 'missing'}, unlike the source's."
