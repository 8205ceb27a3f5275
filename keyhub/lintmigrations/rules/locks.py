"""Nobody waits: what reads, rewrites or indexes a table that is in use, under a lock that stops its users.

Which lock a statement takes: https://www.postgresql.org/docs/current/sql-altertable.html, and what each lock stops:
https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from django.db.migrations.operations import AddConstraint, AddIndex
from django.db.migrations.writer import MigrationWriter

from keyhub.lintmigrations import actions
from keyhub.lintmigrations.actions import Column, Constraint
from keyhub.lintmigrations.findings import Complaint
from keyhub.lintmigrations.rules.interruption import on_partitions
from keyhub.lintmigrations.rules.registry import Scene, on_statement
from keyhub.lintmigrations.statements import Statement
from keyhub.lintmigrations.tokens import Token, text_of


@on_statement("keyhub.M006", also_down=True)
def index_without_concurrently(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY"""
    for action in statement.actions:
        if not isinstance(action, actions.CreateIndex) or action.concurrently or not scene.existed(action.table):
            continue
        if action.only:
            continue  # of a partitioned table, whose rows are elsewhere
        is_partitioned = scene.catalogue.table(action.table).partition_key is not None
        if isinstance(statement.operation, AddIndex):
            index = MigrationWriter.serialize(statement.operation.index)[0]
            operation, module = (
                ("AddPartitionedIndexConcurrently", "keyhub.migration_operations")
                if is_partitioned
                else ("AddIndexConcurrently", "django.contrib.postgres.operations")
            )
            mend = (
                f'{operation}("{statement.operation.model_name}", {index}) from {module}, in a migration of its own '
                "with atomic = False."
            )
        elif is_partitioned:
            mend = on_partitions(action)
        else:
            concurrent = re.sub(r"(?i)\bINDEX\b", "INDEX CONCURRENTLY", statement.text, count=1)
            mend = f"In a migration of its own with atomic = False:\n{concurrent};"
        name = action.index or "an index"
        yield Complaint(
            statement.place,
            f"{scene.title} adds {name} without CONCURRENTLY: writes to {action.table} wait for it.",
            mend,
        )


@on_statement("keyhub.M007", also_down=True)
def constraint_without_not_valid(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-NOTES"""
    for table, constraint, column in _constraints_added(statement, scene):
        if constraint.kind not in ("check", "foreign key") or constraint.not_valid:
            continue
        is_key = constraint.kind == "foreign key"
        waiting = f"writes to {table} and {constraint.references} wait" if is_key else f"everybody waits for {table}"
        yield Complaint(
            statement.place_at(constraint.offset),
            f"{scene.title} adds {_named(constraint)} to {table} without NOT VALID: {waiting} while every row is read.",
            _column_alone(table, column) + _not_valid_mend(statement, table, constraint),
        )


def _not_valid_mend(statement: Statement, table: str, constraint: Constraint) -> str:
    if isinstance(statement.operation, AddConstraint):
        operation = statement.operation
        return (
            f'AddConstraintNotValid("{operation.model_name}", …), and in the next migration '
            f'ValidateConstraint("{operation.model_name}", "{operation.constraint.name}"), both from '
            "django.contrib.postgres.operations."
        )
    if constraint.kind == "check":
        name = constraint.name or f"{table}_{'_'.join(constraint.columns) or 'rule'}_check"
        definition = f"CHECK ({constraint.expression})"
    else:
        name = constraint.name or f"{table}_{'_'.join(constraint.columns)}_fkey"
        referenced = f" ({', '.join(constraint.referenced_columns)})" if constraint.referenced_columns else ""
        rule = f" ON DELETE {constraint.on_delete}" if constraint.on_delete else ""
        definition = (
            f"FOREIGN KEY ({', '.join(constraint.columns)}) REFERENCES {constraint.references}{referenced}{rule}"
        )
    return (
        f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition} NOT VALID;\n"
        f"-- and in the next migration:\nALTER TABLE {table} VALIDATE CONSTRAINT {name};"
    )


@on_statement("keyhub.M008", also_down=True)
def unique_without_index(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-DESC-ADD-TABLE-CONSTRAINT-USING-INDEX"""
    for table, constraint, column in _constraints_added(statement, scene):
        if constraint.kind not in ("unique", "primary key", "exclude") or constraint.using_index:
            continue
        problem = (
            f"{scene.title} adds {_named(constraint)} to {table} and builds its index at once: everybody waits for "
            f"{table} until it is built."
        )
        if constraint.kind == "exclude":
            mend = "An EXCLUDE constraint cannot be added to a table in use. Make a new table, and move the rows to it."
        else:
            suffix = "pkey" if constraint.kind == "primary key" else "key"
            name = constraint.name or "_".join([table, *constraint.columns, suffix])
            first = _column_alone(table, column)
            mend = first + (
                f"{'-- and in' if first else 'In'} a migration of its own with atomic = False:\n"
                f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} ({', '.join(constraint.columns)});\n"
                "-- and in the next migration:\n"
                f"ALTER TABLE {table} ADD CONSTRAINT {name} {constraint.kind.upper()} USING INDEX {name};"
            )
        yield Complaint(statement.place_at(constraint.offset), problem, mend)


def _constraints_added(statement: Statement, scene: Scene) -> Iterator[tuple[str, Constraint, Column | None]]:
    """The constraints that are added to tables in use, with the new column that they stand beside.

    A key on a new column without a default reads no row.
    """
    for action in statement.actions:
        if not isinstance(action, actions.AddConstraint | actions.AddColumn) or not scene.existed(action.table):
            continue
        if isinstance(action, actions.AddConstraint):
            yield action.table, action.constraint, None
            continue
        for constraint in action.column.constraints:
            if constraint.kind != "foreign key" or action.column.default:
                yield action.table, constraint, action.column


def _column_alone(table: str, column: Column | None) -> str:
    if column is None:
        return ""
    default = f" DEFAULT {text_of(column.default)}" if column.default else ""
    return f"ALTER TABLE {table} ADD COLUMN {column.name} {column.type}{' NOT NULL' * column.not_null}{default};\n"


def _named(constraint: Constraint) -> str:
    if constraint.name:
        return constraint.name
    kind = {"check": "a CHECK", "foreign key": "a foreign key", "primary key": "a primary key", "exclude": "an EXCLUDE"}
    return kind.get(constraint.kind, "a UNIQUE") + (f" ({', '.join(constraint.columns)})" if constraint.columns else "")


@on_statement("keyhub.M009", also_down=True)
def validated_at_once(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """The lock of ADD CONSTRAINT is held until the transaction ends, so all rows are read under it after all.

    https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-NOTES
    """
    for action in statement.actions:
        if not isinstance(action, actions.ValidateConstraint) or not scene.step.atomic:
            continue
        if scene.catalogue.table(action.table).not_valid.get(action.name) == scene.moment:
            yield Complaint(
                statement.place,
                f"{scene.title} adds {action.name} NOT VALID and validates it in the same transaction: the lock of the "
                f"one is held while the other reads every row of {action.table}.",
                f"In the next migration:\nALTER TABLE {action.table} VALIDATE CONSTRAINT {action.name};",
            )


# From a type, the types to which a column changes without being rewritten or read.
_TEXT = re.compile(r"(?:varchar|character varying)(?:\((\d+)\))?$|text$")
_NUMERIC = re.compile(r"(?:numeric|decimal)(?:\((\d+)(?:, (\d+))?\))?$")


@on_statement("keyhub.M010", also_down=True)
def rewrite(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-NOTES"""
    for action in statement.actions:
        if isinstance(action, actions.AlterType) and scene.existed(action.table):
            known = scene.catalogue.table(action.table).columns.get(action.column)
            if known and is_free(known.type, action.type):
                continue
            change = f"from {known.type} to {action.type}" if known and known.type else f"to {action.type}"
            yield Complaint(
                statement.place,
                f"{scene.title} changes {action.table}.{action.column} {change}: everybody waits for {action.table} "
                "while it is rewritten.",
                f"Add a column of the new type, write both, copy the old values in batches, read the new one, and drop "
                f"{action.column} in a later version.",
            )
        elif isinstance(action, actions.RewriteTable) and scene.existed(action.table):
            yield Complaint(
                statement.place,
                f"{scene.title} says {action.how}: everybody waits for {action.table} while it is rewritten.",
                "Make a new table, and move the rows to it in batches.",
            )


def is_free(old: str, new: str) -> bool:
    """Say whether a change of type leaves the rows as they are, unread."""
    if old == new:
        return True
    before, after = _TEXT.match(old), _TEXT.match(new)
    if before and after:
        return after[1] is None or (before[1] is not None and int(before[1]) <= int(after[1]))
    before, after = _NUMERIC.match(old), _NUMERIC.match(new)
    if before and after:
        if after[1] is None:
            return True
        return bool(before[1]) and int(before[1]) <= int(after[1]) and (before[2] or "0") == (after[2] or "0")
    return False


@on_statement("keyhub.M011", also_down=True)
def not_null_scan(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-DESC-SET-DROP-NOT-NULL"""
    for action in statement.actions:
        if not isinstance(action, actions.SetNotNull) or not scene.existed(action.table):
            continue
        table = scene.catalogue.table(action.table)
        proof = f"{action.column} is not null"
        if any(text.strip("()") == proof and name not in table.not_valid for name, text in table.checks.items()):
            continue
        rule = f"{action.table}_{action.column}_not_null"
        yield Complaint(
            statement.place,
            f"{scene.title} sets {action.table}.{action.column} NOT NULL: everybody waits for {action.table} while "
            "every row is read.",
            f"ALTER TABLE {action.table} ADD CONSTRAINT {rule} CHECK ({action.column} IS NOT NULL) NOT VALID;\n"
            f"-- and in the next migration:\nALTER TABLE {action.table} VALIDATE CONSTRAINT {rule};\n"
            "-- and in the one after it, which believes the constraint and reads nothing:\n"
            f"ALTER TABLE {action.table} ALTER COLUMN {action.column} SET NOT NULL;\n"
            f"ALTER TABLE {action.table} DROP CONSTRAINT {rule};",
        )


# Functions that give one value for a whole statement. Of any other, PostgreSQL may have to ask for each row.
STEADY = frozenset([
    "now", "statement_timestamp", "transaction_timestamp", "current_setting", "coalesce", "lower", "upper", "trim",
    "md5", "date_trunc", "make_interval", "make_date", "make_timestamptz", "to_char", "to_date", "to_json",
    "to_jsonb", "json_build_object", "jsonb_build_object", "json_build_array", "jsonb_build_array", "concat",
    "format", "length", "abs",
])  # fmt: skip


@on_statement("keyhub.M012", also_down=True)
def volatile_default(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-NOTES"""
    for action in statement.actions:
        if not isinstance(action, actions.AddColumn) or not scene.existed(action.table):
            continue
        column = action.column
        function = _unsteady_function(column.default)
        if not (column.filled or function):
            continue
        cause = column.filled or f"the default {text_of(column.default)}"
        mend = "Make a new table, and move the rows to it in batches."
        if function:
            mend = (
                f"ALTER TABLE {action.table} ADD COLUMN {column.name} {column.type};\n"
                f"ALTER TABLE {action.table} ALTER COLUMN {column.name} SET DEFAULT {text_of(column.default)};\n"
                "-- and in the next migration, in batches:\n"
                f"UPDATE {action.table} SET {column.name} = DEFAULT WHERE {column.name} IS NULL;"
            )
        elif column.filled == "GENERATED … STORED":
            mend = "Let a trigger fill a plain column, and fill the old rows in batches."
        yield Complaint(
            statement.place_at(column.offset),
            f"{scene.title} adds {action.table}.{column.name} with {cause}: everybody waits for {action.table} while "
            "it is rewritten, a value for each row.",
            mend,
        )


def _unsteady_function(default: tuple[Token, ...]) -> str:
    """The first function called whose value may differ from row to row."""
    for token, after in pairwise(default):
        if token.is_name and after.text == "(" and token.name not in STEADY | {"varchar", "char", "numeric", "in"}:
            return token.name
    return ""


@on_statement("keyhub.M013", also_down=True)
def partition_of_existing(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """https://www.postgresql.org/docs/current/ddl-partitioning.html#DDL-PARTITIONING-DECLARATIVE-MAINTENANCE"""
    for action in statement.actions:
        if not isinstance(action, actions.CreateTable) or not action.partition_of:
            continue
        parent = action.partition_of
        if scene.existed(parent):
            bounds = statement.text[statement.text.upper().find("FOR VALUES") :]
            if action.bounds.is_default or not bounds.upper().startswith("FOR VALUES"):
                bounds = "DEFAULT"
            yield Complaint(
                statement.place,
                f"{scene.title} makes {action.table} as a partition of {parent} at once: that waits for everybody who "
                f"uses {parent}, and everybody waits for it.",
                f"CREATE TABLE {action.table} (LIKE {parent} INCLUDING ALL);\n"
                f"ALTER TABLE {parent} ATTACH PARTITION {action.table} {bounds};",
            )
