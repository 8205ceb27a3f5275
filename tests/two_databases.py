"""A tenant database and an Admin database on the server of the tests, for this process and for those that it starts.

The fixture `two_databases` makes both for one test; a module whose tests share them does so by `make_two_databases`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import sql

from keyhub import placement
from keyhub.embedded import EmbeddedServer
from keyhub.placement import ADMIN
from keyhub.splitadmin import procedure

SUBSCRIPTIONS = """
    SELECT subname FROM pg_subscription
    WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True)
class TwoDatabases:
    """The names of the two, of which Django's aliases are "default" and "admin" as long as they are there."""

    server: EmbeddedServer
    tenant: str
    admin: str

    def name(self, alias: str) -> str:
        return self.admin if alias == ADMIN else self.tenant

    def connect(self, alias: str, user: str = "postgres") -> psycopg.Connection:
        """A session in autocommit; of the superuser, or of `keyhub`, which owns the tables."""
        return self.server.connect(self.name(alias), user=user)

    def environment(self, user: str = "postgres") -> dict[str, str]:
        """What a process of its own is to know: `manage("dbhealth", **two_databases.environment())`."""
        host = self.server.socket_directory
        urls = {"DATABASE_URL": self.tenant, "ADMIN_DATABASE_URL": self.admin}
        return {variable: f"postgres:///{name}?host={host}&user={user}" for variable, name in urls.items()}

    def split(self, finish: bool = True) -> None:
        """Move the rows into the Admin database, up to the step from which there is a way back, or to the last one."""
        with _readers_awaited_for(0):
            procedure.run(_silently)
            if finish:
                procedure.finish(_silently)


def _silently(line: str) -> None:
    pass


@contextmanager
def made(tenant: str, admin: str, server: EmbeddedServer) -> Iterator[TwoDatabases]:
    """Let "admin" be a second database beside "default". At the end neither follows the other: both can be dropped."""
    databases = TwoDatabases(server, tenant, admin)
    previous_url = settings.ADMIN_DATABASE_URL
    settings.ADMIN_DATABASE_URL = databases.environment()["ADMIN_DATABASE_URL"]
    connections.settings[ADMIN] = {**connections.settings[DEFAULT_DB_ALIAS], "NAME": admin}
    placement.forget()
    try:
        yield databases
    finally:
        connections[ADMIN].close()
        del connections[ADMIN], connections.settings[ADMIN]
        settings.ADMIN_DATABASE_URL = previous_url
        placement.forget()
        _unfollow(databases)


def _unfollow(databases: TwoDatabases) -> None:
    """Drop subscriptions and slots, which would keep the databases from being dropped."""
    for alias in (DEFAULT_DB_ALIAS, ADMIN):
        with databases.connect(alias) as own:
            for (name,) in own.execute(SUBSCRIPTIONS).fetchall():
                for statement in (
                    "ALTER SUBSCRIPTION {} DISABLE",
                    "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
                    "DROP SUBSCRIPTION {}",
                ):
                    own.execute(sql.SQL(statement).format(sql.Identifier(name)))
    with databases.server.connect() as own:
        names = [databases.tenant, databases.admin]
        own.execute(
            "SELECT pg_terminate_backend(active_pid, 30000) FROM pg_replication_slots "
            "WHERE database = ANY(%s) AND active_pid IS NOT NULL",
            [names],
        )
        own.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = ANY(%s)", [names]
        )


@contextmanager
def _readers_awaited_for(seconds: float) -> Iterator[None]:
    """No other process reads the copies."""
    previous, procedure.LAST_READERS_S = procedure.LAST_READERS_S, seconds
    try:
        yield
    finally:
        procedure.LAST_READERS_S = previous
