"""The catalogue that the project's own migrations make, at a version: they are run, read, and rolled back."""

import dataclasses
import re

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from keyhub.adopt.catalogue import Catalogue, read
from keyhub.dbversion.version_list import Version
from keyhub.migrate.executor import RefusedError
from keyhub.migrate.lean import LeanExecutor

SCHEMA = "keyhub_adopt_reference"
INSUFFICIENT_PRIVILEGE = "42501"


def reference_catalogue(connection: BaseDatabaseWrapper, versions: list[Version]) -> Catalogue:
    """Return what these versions make on an empty database.

    They run in a schema of their own, inside a transaction that is rolled back: no other database is needed, nothing of
    the live schema is locked, and a kill leaves nothing. Raises RefusedError where no schema may be made.
    """
    with transaction.atomic(using=connection.alias):
        with connection.cursor() as cursor:
            try:
                cursor.execute(f"CREATE SCHEMA {SCHEMA}")
            except DatabaseError as error:
                if getattr(error.__cause__, "sqlstate", None) != INSUFFICIENT_PRIVILEGE:
                    raise
                raise RefusedError(
                    "adopting needs schemas of its own for a while, which this role may not make. "
                    "GRANT CREATE ON DATABASE to it, or run this as the database's owner."
                ) from error
            cursor.execute("SELECT set_config('search_path', %s, true)", [SCHEMA])
        made: dict[str, str] = {}

        def note_triggers(execute, sql, params, many, context):
            if isinstance(sql, str) and (match := re.match(r"CREATE TRIGGER (\w+)\s", sql)):
                made[match[1]] = sql
            return execute(sql, params, many, context)

        executor = LeanExecutor(connection)
        with connection.execute_wrapper(note_triggers):
            executor.migrate([key for version in versions for key in version.migrations])
        catalogue = read(connection, SCHEMA)
        transaction.set_rollback(True, using=connection.alias)
    for table in catalogue.tables.values():
        for name, trigger in table.triggers.items():
            table.triggers[name] = dataclasses.replace(trigger, made_by=made[name])
    # The runner's own table is made when there is something to record.
    del catalogue.tables["django_migrations"]
    return catalogue
