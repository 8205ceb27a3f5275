"""Django's schema editor for PostgreSQL without a server: it writes down what it would send.

Django asks the server for little on the way: its version, how to quote values, and the names of constraints that it
is to drop. The oldest supported version, psycopg and a stand-in for the name answer that.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.postgres.operations import CreateExtension
from django.db import connections, router
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.backends.postgresql.operations import DatabaseOperations
from django.db.backends.postgresql.schema import DatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from psycopg.sql import quote

from keyhub import placement

OLDEST_SERVER = 15_00_00


class OfflineOperations(DatabaseOperations):
    def compose_sql(self, sql, params):
        return sql if params is None else sql % tuple(quote(value) for value in params)


class OfflineCursor:
    """An empty database: it writes statements down and finds no row."""

    rowcount = 0

    def __init__(self, sent: list[str]):
        self.sent = sent

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None

    def execute(self, sql, params=None):
        self.sent.append(str(sql))

    def fetchone(self):
        return None

    def fetchall(self):
        return []

    fetchmany = fetchall

    def __iter__(self):
        return iter(())


class OfflineConnection(DatabaseWrapper):
    ops_class = OfflineOperations
    pg_version = OLDEST_SERVER

    def __init__(self, alias: str):
        super().__init__(connections[alias].settings_dict, alias)
        self.sent: list[str] = []

    def cursor(self):
        return OfflineCursor(self.sent)

    def ensure_connection(self):
        raise RuntimeError("it needs a database to say what it would do")


@contextmanager
def _in_the_place_of(alias: str, connection: OfflineConnection) -> Iterator[None]:
    """Operations may also ask for a connection by its alias; they are to get no other one."""
    online = connections[alias]
    connections[alias] = connection
    try:
        with placement.one_database():
            yield
    finally:
        connections[alias] = online


class OfflineSchemaEditor(DatabaseSchemaEditor):
    def __init__(self, connection: OfflineConnection):
        super().__init__(connection, collect_sql=True, atomic=False)
        self.deferred_sql = []

    def execute(self, sql, params=()):
        self.connection.sent.append(str(self.connection.ops.compose_sql(str(sql), params)))

    def _constraint_names(self, model, column_names=None, **kwargs):
        # Asked only for what the state says is there, to drop it.
        return ["_".join([model._meta.db_table, *(column_names or [])])]

    def sent_by(self, operation: Operation, app_label: str, before: ProjectState, after: ProjectState) -> list[str]:
        """Return what an operation sends, with what Django keeps back for the migration's end."""
        if isinstance(operation, CreateExtension):
            # It would go on to ask for the types of the extension, and remember that there are none.
            return [f"CREATE EXTENSION IF NOT EXISTS {self.quote_name(operation.name)}"]
        with _in_the_place_of(self.connection.alias, self.connection):
            operation.database_forwards(app_label, self, before, after)
        sent = self.connection.sent + [str(statement) for statement in self.deferred_sql]
        self.connection.sent.clear()
        self.deferred_sql.clear()
        return sent


def editor_for(app_label: str) -> OfflineSchemaEditor:
    """An editor of the database in which an app's tables live."""
    alias = next((alias for alias in connections if router.allow_migrate(alias, app_label)), "default")
    return OfflineSchemaEditor(OfflineConnection(alias))
