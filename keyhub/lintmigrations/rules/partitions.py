"""Partitioned tables: https://www.postgresql.org/docs/current/ddl-partitioning.html"""

import re
from collections.abc import Iterator

from keyhub.lintmigrations import actions
from keyhub.lintmigrations.actions import Bounds
from keyhub.lintmigrations.findings import Complaint, Place
from keyhub.lintmigrations.rules.registry import Scene, on_statement, on_step
from keyhub.lintmigrations.statements import Statement

_TIME = re.compile(r"\s*\d{4}-\d\d-\d\d\b(?P<rest>.*)", re.DOTALL)
_OFFSET = re.compile(r"(?:[+-]\d\d(?::?\d\d)?|Z|UTC)\s*$", re.IGNORECASE)
WITHOUT_TIME_ZONE = ("date", "timestamp", "timestamp without time zone")


@on_statement("keyhub.M022")
def bound_without_offset(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """A time without an offset is one of the session: https://www.postgresql.org/docs/current/datatype-datetime.html"""
    for parent, partition, bounds in _partitions(statement):
        if _knows_no_time_zone(scene, parent):
            continue
        bare = [
            literal
            for literal in bounds.literals
            if (time := _TIME.match(literal)) and not _OFFSET.search(time["rest"])
        ]
        if bare:
            full = ", ".join(f"'{_with_offset(literal)}'" for literal in bare)
            yield Complaint(
                statement.place,
                f"{scene.title} bounds {partition} by {' and '.join(repr(literal) for literal in bare)}, without an "
                "offset: the bound depends on the TimeZone of the session that runs it, so months overlap or leave "
                "gaps between machines.",
                f"Write {full}.",
            )


def _with_offset(literal: str) -> str:
    return f"{literal.strip()}+00" if ":" in literal else f"{literal.strip()} 00:00:00+00"


def _knows_no_time_zone(scene: Scene, parent: str) -> bool:
    table = scene.catalogue.table(parent)
    types = [table.columns[column].type for column in table.partition_key or () if column in table.columns]
    return bool(types) and all(of_type in WITHOUT_TIME_ZONE for of_type in types)


@on_statement("keyhub.M023")
def partition_of_plain_table(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """https://www.postgresql.org/docs/current/ddl-partitioning.html#DDL-PARTITIONING-DECLARATIVE"""
    for parent, partition, bounds in _partitions(statement):
        table = scene.catalogue.table(parent)
        if table.place is None or table.partition_key is not None:
            continue
        by = "LIST" if bounds.literals and not bounds.is_range else "RANGE"
        key = next((name for name, column in table.columns.items() if column.type.startswith("timestamp")), "…")
        if key == "…":
            key = next((name for name, column in table.columns.items() if "time" in column.type), "…")
        yield Complaint(
            statement.place,
            f"{scene.title} makes {partition} a partition of {parent}, which is no partitioned table: PostgreSQL "
            "refuses it.",
            f"End CREATE TABLE {parent} (…) with PARTITION BY {by} ({key}), and have {key} in its primary key.",
        )


@on_statement("keyhub.M024")
def key_without_partition_key(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """https://www.postgresql.org/docs/current/ddl-partitioning.html#DDL-PARTITIONING-DECLARATIVE-LIMITATIONS"""
    for table, what, place, columns, partition_key in _unique_keys(statement, scene):
        missing = [column for column in partition_key if column not in columns]
        if missing:
            yield Complaint(
                place,
                f"{scene.title} gives the partitioned table {table} {what} without its partition key "
                f"({', '.join(partition_key)}): PostgreSQL refuses it.",
                f"Let it be ({', '.join([*columns, *missing])}).",
            )


def _unique_keys(
    statement: Statement, scene: Scene
) -> Iterator[tuple[str, str, Place, tuple[str, ...], tuple[str, ...]]]:
    for action in statement.actions:
        match action:
            case actions.CreateTable(table=table, partition_key=key) if key is not None:
                constraints = [c for column in action.columns for c in column.constraints] + list(action.constraints)
            case actions.AddConstraint(table=table, constraint=constraint):
                key, constraints = scene.catalogue.table(table).partition_key, [constraint]
            case actions.CreateIndex(table=table, unique=True):
                key, constraints = scene.catalogue.table(table).partition_key, []
                if key is not None:
                    yield table, "a unique index", statement.place, action.keys, key
            case _:
                continue
        for constraint in constraints:
            if key is not None and constraint.kind in ("primary key", "unique") and not constraint.using_index:
                what = "a primary key" if constraint.kind == "primary key" else "a UNIQUE"
                yield table, what, statement.place_at(constraint.offset), constraint.columns, key


@on_step("keyhub.M025")
def no_default_partition(scene: Scene) -> Iterator[Complaint]:
    """A row of no partition is refused: https://www.postgresql.org/docs/current/sql-createtable.html"""
    told: set[str] = set()
    for statement in scene.step.up:
        for parent, _, bounds in _partitions(statement):
            if not bounds.is_range or parent in told or scene.catalogue.table(parent).has_default_partition:
                continue
            if scene.catalogue.table(parent).place is None:
                continue  # made before, perhaps with its DEFAULT partition
            told.add(parent)
            yield Complaint(
                statement.place,
                f"{scene.title} leaves {parent} without a DEFAULT partition: a row that no partition takes is refused.",
                f"CREATE TABLE {parent}_default PARTITION OF {parent} DEFAULT;",
            )


def _partitions(statement: Statement) -> Iterator[tuple[str, str, Bounds]]:
    """The partitions that a statement makes: parent, name, bounds."""
    for action in statement.actions:
        match action:
            case actions.CreateTable(partition_of=str(parent)):
                yield parent, action.table, action.bounds
            case actions.AttachPartition():
                yield action.table, action.partition, action.bounds
