"""docs/schema.md: the tables as a picture and in words.

What the tables are made of comes from the live catalogue, what they are for from the models. The text is the same on
PostgreSQL 15 to 18 and on every day: the months of a partitioned table are left out.
"""

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from django.apps import AppConfig, apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Field, Model
from django.utils import translation

from keyhub.dbhealth.examination import is_made_at_run_time

DOCUMENT = settings.BASE_DIR / "docs" / "schema.md"

INTRODUCTION = """\
# Schema

Written by `manage.py schemadoc` from a migrated database; edit the models or add a migration, not this page.
Why it differs from the source design: [departures.md](departures.md).
"""


class SchemaDocError(Exception):
    """The database cannot be described; the text is one sentence for people."""


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    nullable: bool
    default: str | None
    is_generated: bool


@dataclass(frozen=True)
class Constraint:
    """One row of pg_constraint; `target` is the table that a foreign key refers to."""

    name: str
    kind: str
    columns: tuple[str, ...]
    target: str | None
    definition: str


@dataclass(frozen=True)
class Index:
    """An index that no constraint made; `columns` is empty where it covers part of the rows, or an expression."""

    name: str
    is_unique: bool
    columns: tuple[str, ...]
    definition: str


@dataclass(frozen=True)
class Trigger:
    name: str
    definition: str


@dataclass
class Table:
    name: str
    partition_key: str | None
    columns: list[Column] = field(default_factory=list)
    constraints: list[Constraint] = field(default_factory=list)
    indexes: list[Index] = field(default_factory=list)
    triggers: list[Trigger] = field(default_factory=list)

    def unique_keys(self) -> set[frozenset[str]]:
        """The sets of columns that no two rows share."""
        by_constraint = {frozenset(constraint.columns) for constraint in self.constraints if constraint.kind in "pu"}
        by_index = {frozenset(index.columns) for index in self.indexes if index.is_unique and index.columns}
        return by_constraint | by_index

    def key_marks(self, column: str) -> list[str]:
        """PK, FK, UK: the keys that a column is (part of, for PK and FK)."""
        kinds = {constraint.kind for constraint in self.constraints if column in constraint.columns}
        marks = [mark for kind, mark in (("p", "PK"), ("f", "FK")) if kind in kinds]
        is_unique = frozenset([column]) in self.unique_keys()
        return marks + ["UK"] * (is_unique and "PK" not in marks)


# Reading the catalogue

TABLES = """
    SELECT relname, pg_get_partkeydef(oid)
    FROM pg_class
    WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = current_schema()::regnamespace
    ORDER BY relname COLLATE "C"
"""
COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod), NOT attnotnull, pg_get_expr(adbin, adrelid), attgenerated <> ''
    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum
"""
# NOT NULL stands with the columns; PostgreSQL 18 lists it here too ('n'), 15 does not.
CONSTRAINTS = """
    SELECT conname, contype,
        ARRAY(SELECT attname FROM unnest(conkey) WITH ORDINALITY AS key (attnum, place)
              JOIN pg_attribute USING (attnum) WHERE attrelid = conrelid ORDER BY place),
        (SELECT relname FROM pg_class WHERE oid = confrelid), pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE conrelid = %s::regclass AND contype IN ('p', 'u', 'f', 'c', 'x')
    ORDER BY array_position(ARRAY['p', 'u', 'f', 'c', 'x'], contype::text), conname COLLATE "C"
"""
INDEXES = """
    SELECT relname, indisunique,
        ARRAY(SELECT attname FROM unnest(indkey[:indnkeyatts - 1]) WITH ORDINALITY AS key (attnum, place)
              JOIN pg_attribute USING (attnum)
              WHERE attrelid = indrelid AND indpred IS NULL AND indexprs IS NULL ORDER BY place),
        pg_get_indexdef(indexrelid)
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = %s::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid
                                                  AND conrelid = indrelid AND contype IN ('p', 'u', 'x'))
    ORDER BY relname COLLATE "C"
"""
TRIGGERS = """
    SELECT tgname, pg_get_triggerdef(oid, true)
    FROM pg_trigger
    WHERE tgrelid = %s::regclass AND NOT tgisinternal
    ORDER BY tgname COLLATE "C"
"""
SHORT_TYPES = {"timestamp with time zone": "timestamptz"}


def read_tables(connection: BaseDatabaseWrapper) -> dict[str, Table]:
    """Every table of the schema but partitions, by name."""
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        tables = {name: Table(name, partition_key) for name, partition_key in cursor.fetchall()}
        for table in tables.values():
            quoted = [connection.ops.quote_name(table.name)]
            cursor.execute(COLUMNS, quoted)
            table.columns = [
                Column(name, SHORT_TYPES.get(kind, kind), *rest) for name, kind, *rest in cursor.fetchall()
            ]
            cursor.execute(CONSTRAINTS, quoted)
            table.constraints = [
                Constraint(name, kind, tuple(columns), *rest) for name, kind, columns, *rest in cursor.fetchall()
            ]
            cursor.execute(INDEXES, quoted)
            table.indexes = [
                Index(name, is_unique, tuple(columns), definition.partition(" USING ")[2])
                for name, is_unique, columns, definition in cursor.fetchall()
            ]
            cursor.execute(TRIGGERS, quoted)
            table.triggers = [
                Trigger(name, re.sub(r"^CREATE (CONSTRAINT )?TRIGGER \S+ ", "", definition))
                for name, definition in cursor.fetchall()
            ]
    return tables


# Bringing the models to it


def documented_apps() -> list[tuple[AppConfig, list[type[Model]]]]:
    """The apps of this checkout with their models, less the operators', which belong to the admin."""
    operator = get_user_model()
    own = [config for config in apps.get_app_configs() if Path(config.path).parent == settings.BASE_DIR]
    found = [(config, [model for model in config.get_models() if model is not operator]) for config in own]
    return [(config, models) for config, models in found if models]


def text(database: str) -> str:
    """Return what docs/schema.md must hold, by the database of this alias. Raises SchemaDocError."""
    connection = connections[database]
    _refuse_unmigrated(connection)
    tables = read_tables(connection)
    sections = documented_apps()
    documented = [model for _, models in sections for model in models]
    for model in documented:
        _refuse_difference(model, tables.get(model._meta.db_table))
    names = [model._meta.db_table for model in documented]
    # Help texts as the models have them, whatever LANGUAGE_CODE says.
    with translation.override(None):
        parts = [
            INTRODUCTION,
            "## Picture\n",
            *_picture([tables[name] for name in names]),
            *(line for config, models in sections for line in _section(config, models, tables)),
            *_others(sorted(name for name in set(tables) - set(names) if not is_made_at_run_time(f"table {name}"))),
        ]
    return "\n".join(parts)


def _refuse_unmigrated(connection: BaseDatabaseWrapper) -> None:
    executor = MigrationExecutor(connection)
    pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if pending:
        migration, _ = pending[0]
        raise SchemaDocError(
            f"the database {connection.alias!r} is not at the newest version: {migration} is not applied. "
            "Run `manage.py migrate`, then this again."
        )


def _refuse_difference(model: type[Model], table: Table | None) -> None:
    label = model._meta.label
    if table is None:
        raise SchemaDocError(
            f"the table {model._meta.db_table} of the model {label} does not exist. `manage.py dbhealth` tells more."
        )
    missing = {column.column for column in model._meta.concrete_fields} - {column.name for column in table.columns}
    if missing:
        raise SchemaDocError(
            f"the table {table.name} has no column {min(missing)}, which the model {label} has. "
            "Add a migration and run `manage.py migrate`, then this again."
        )


# Writing it down


def _picture(tables: list[Table]) -> Iterator[str]:
    yield "```mermaid"
    yield "erDiagram"
    for table in tables:
        for key in table.constraints:
            if key.kind == "f":
                yield f"    {_relation(table, key)}"
    for table in tables:
        yield f"    {table.name} {{"
        for column in table.columns:
            marks = ", ".join(table.key_marks(column.name))
            yield f"        {re.sub(r'[^a-z0-9_]+', '_', column.type)} {column.name} {marks}".rstrip()
        yield "    }"
    yield "```\n"


def _relation(table: Table, key: Constraint) -> str:
    may_be_null = any(column.nullable for column in table.columns if column.name in key.columns)
    at_most_one = any(unique <= set(key.columns) for unique in table.unique_keys())
    parent, children = "|o" if may_be_null else "||", "o|" if at_most_one else "o{"
    return f'{key.target} {parent}--{children} {table.name} : "{", ".join(key.columns)}"'


def _section(config: AppConfig, models: list[type[Model]], tables: dict[str, Table]) -> Iterator[str]:
    yield f"## {config.verbose_name}\n"
    if config.models_module.__doc__:
        yield inspect.cleandoc(config.models_module.__doc__) + "\n"
    for model in models:
        yield from _table(model, tables[model._meta.db_table])


def _table(model: type[Model], table: Table) -> Iterator[str]:
    fields = {field.column: field for field in model._meta.concrete_fields}
    yield f"### {table.name}\n"
    yield inspect.cleandoc(model.__doc__) + "\n"
    if table.partition_key is not None:
        yield f"Partitioned by `{table.partition_key}`.\n"
    yield from _markdown_table(
        ("Column", "Type", "Null", "Default", "Key", "Meaning"),
        (
            (
                _code(column.name),
                _code(column.type),
                "null" if column.nullable else "",
                ("generated: " if column.is_generated else "") + _code(column.default),
                ", ".join(table.key_marks(column.name)),
                _meaning(fields.get(column.name)),
            )
            for column in table.columns
        ),
    )
    yield from _markdown_table(
        ("Constraint", "Rule"), ((_code(one.name), _code(one.definition)) for one in table.constraints)
    )
    yield from _markdown_table(
        ("Index", "On"),
        ((_code(one.name), _code("UNIQUE " * one.is_unique + one.definition)) for one in table.indexes),
    )
    yield from _markdown_table(
        ("Trigger", "Runs"), ((_code(one.name), _code(one.definition)) for one in table.triggers)
    )


def _meaning(model_field: Field | None) -> str:
    if model_field is None:
        return ""
    parts = [str(model_field.help_text)] if model_field.help_text else []
    if model_field.choices:
        parts.append("One of " + ", ".join(_code(value) for value, _ in model_field.flatchoices) + ".")
    return " ".join(parts)


def _others(names: list[str]) -> Iterator[str]:
    yield "## Other tables\n"
    whose = "Django's own, its packages', the operators' of the admin and the migration runner's"
    yield f"{whose}; they are no part of the design.\n"
    for name in names:
        yield f"- {_code(name)}"
    yield ""


def _code(value: str | None) -> str:
    return f"`{value}`" if value else ""


def _markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rows = list(rows)
    if not rows:
        return
    for cells in (head, ("---",) * len(head), *rows):
        yield "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
    yield ""


# The file


def is_current(database: str, document: Path = DOCUMENT) -> bool:
    """Say whether the page on disk is what the database says. Raises SchemaDocError."""
    return _on_disk(document) == text(database)


def write(database: str, document: Path = DOCUMENT) -> bool:
    """Write the page; False where it was current. Raises SchemaDocError, and then leaves the page as it was."""
    content = text(database)
    if _on_disk(document) == content:
        return False
    unfinished = document.with_name(f"{document.name}.new")
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(document)
    return True


def _on_disk(document: Path) -> str | None:
    return document.read_text(encoding="utf-8") if document.exists() else None
