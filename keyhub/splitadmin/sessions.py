"""Sessions of our own on the servers of both databases, beside Django's."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

from keyhub.dbbackup.sessions import NO_TIMEOUTS

APPLICATION_NAME = "keyhub splitadmin"
# Who may make subscriptions and slots on the PostgreSQL of a laptop, whose own role is no superuser.
EMBEDDED_SUPERUSER = "postgres"


@contextmanager
def session(alias: str, **parameters: str) -> Iterator[psycopg.Connection]:
    """A session in a database, or with `dbname` in another one of its server, in autocommit.

    Raises psycopg.OperationalError where it cannot be had.
    """
    if hasattr(connections[alias], "server"):
        connections[alias].server.start()
    with psycopg.connect(conninfo(connections[alias]), **parameters, autocommit=True) as own:
        own.execute(NO_TIMEOUTS)
        own.execute("SET synchronous_commit = on")  # whatever the server's default is: what was answered is on disk
        yield own


def conninfo(connection: BaseDatabaseWrapper) -> str:
    """How a server, or a session of our own, reaches a database: all that its URL says to libpq."""
    known = {option.keyword.decode() for option in Conninfo.get_defaults()} - {"client_encoding"}
    parameters = {name: value for name, value in connection.get_connection_params().items() if name in known}
    if hasattr(connection, "server"):
        parameters["user"] = EMBEDDED_SUPERUSER
    return make_conninfo("", **{**parameters, "application_name": APPLICATION_NAME})
