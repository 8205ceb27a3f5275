"""The checks that concern every app: migrations, tables, indexes, constraints.

They read pg_catalog, which shows a role without rights on the tables the same as their owner; information_schema does
not: https://www.postgresql.org/docs/current/catalogs.html
"""

from collections.abc import Iterator

from django.apps import apps
from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader

from keyhub.dbhealth import Finding, Severity, register
from keyhub.dbversion import version_list
from keyhub.dbversion.database import DatabaseVersion


@register
def migrations_and_tables(connection: BaseDatabaseWrapper) -> Iterator[Finding]:
    """keyhub.H001 migrations that are not applied; keyhub.H005 unknown, keyhub.H006 edited ones that are.

    keyhub.H002: tables that the applied ones made and that are gone.
    """
    loader = MigrationLoader(connection)
    applied = set(loader.applied_migrations)
    for app_label, name in sorted(set(loader.graph.nodes) - applied):
        yield Finding(
            "keyhub.H001",
            Severity.CRITICAL,
            f"{app_label}.{name}",
            "the migration is not applied",
            "manage.py migrate",
        )
    version = DatabaseVersion(connection, version_list.read(), loader)
    for app_label, name in version.unknown:
        yield Finding(
            "keyhub.H005",
            Severity.CRITICAL,
            f"{app_label}.{name}",
            "the migration is applied, and unknown to this code",
            "deploy the code that has it, or take it back with that code",
        )
    for app_label, name in version.edited():
        yield Finding(
            "keyhub.H006",
            Severity.CRITICAL,
            f"{app_label}.{name}",
            "the migration was edited after this database ran it",
            "take the edit back, and write a new migration for the change",
        )
    # Measured against what is applied: the tables of a pending migration are not missing, they are pending.
    state = loader.project_state(sorted(applied & set(loader.graph.nodes)))
    existing = set(connection.introspection.table_names())
    for model in apps.get_models(include_auto_created=True):
        # An automatic table of a many-to-many field stands and falls with the model that has the field.
        owner = (model._meta.auto_created or model)._meta
        expected = (
            (owner.app_label, owner.model_name) in state.models
            and model._meta.managed
            and router.allow_migrate_model(connection.alias, model)
        )
        if expected and model._meta.db_table not in existing:
            yield Finding(
                "keyhub.H002",
                Severity.CRITICAL,
                model._meta.db_table,
                "the table does not exist, although the migration that makes it is applied",
                "restore the table from a backup",
            )


INVALID_INDEXES = """
    SELECT pg_class.oid::regclass::text
    FROM pg_index JOIN pg_class ON pg_class.oid = pg_index.indexrelid
    WHERE NOT (indisvalid AND indisready AND indislive)
      AND pg_class.relnamespace = current_schema()::regnamespace
"""


@register
def indexes(connection: BaseDatabaseWrapper) -> Iterator[Finding]:
    """keyhub.H003: an interrupted CREATE INDEX CONCURRENTLY leaves an index that no query uses."""
    for (index,) in _rows(connection, INVALID_INDEXES):
        yield Finding(
            "keyhub.H003",
            Severity.CRITICAL,
            index,
            "the index is invalid: queries do not use it, and a unique one does not keep duplicates out",
            f"REINDEX INDEX CONCURRENTLY {index};",
        )


UNVALIDATED_CONSTRAINTS = """
    SELECT conrelid::regclass::text, quote_ident(conname)
    FROM pg_constraint
    WHERE NOT convalidated AND conrelid <> 0 AND connamespace = current_schema()::regnamespace
"""


@register
def constraints(connection: BaseDatabaseWrapper) -> Iterator[Finding]:
    """keyhub.H004: a constraint NOT VALID is kept for new rows only."""
    for table, constraint in _rows(connection, UNVALIDATED_CONSTRAINTS):
        yield Finding(
            "keyhub.H004",
            Severity.CRITICAL,
            f"{table}.{constraint}",
            "the constraint is not validated: rows from before it may break it",
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {constraint};",
        )


def _rows(connection: BaseDatabaseWrapper, query: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()
