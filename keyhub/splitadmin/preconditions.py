"""What must be so before anything is changed: each a sentence with its mend."""

from collections.abc import Iterator

import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import sql

from keyhub import placement
from keyhub.dbbackup.measure import system_identifier
from keyhub.dbversion import version_list
from keyhub.dbversion.database import DatabaseVersion
from keyhub.placement import ADMIN
from keyhub.splitadmin.errors import SplitError
from keyhub.splitadmin.sessions import session

FACTS = """
    SELECT current_setting('wal_level'), current_setting('server_version_num')::int,
        (SELECT count(*) FROM pg_replication_slots) + 1 < current_setting('max_replication_slots')::int,
        rolsuper, rolreplication OR rolsuper, current_user,
        pg_has_role(current_user, 'pg_monitor', 'USAGE') OR rolsuper
    FROM pg_roles WHERE rolname = current_user
"""
OLDEST_FOR_OTHERS = 160000  # of the role pg_create_subscription
MAY_SUBSCRIBE = """
    SELECT pg_has_role(current_user, 'pg_create_subscription', 'USAGE')
        AND has_database_privilege(current_database(), 'CREATE')
"""


def require_admin() -> None:
    if not settings.ADMIN_DATABASE_URL:
        raise SplitError(
            "there is one database. Set ADMIN_DATABASE_URL to an empty one, on this server or another, for "
            "organizations, their domains and console sessions."
        )


def refuse_unready() -> None:
    """Raise SplitError with all that is in the way of a move."""
    require_admin()
    with session(DEFAULT_DB_ALIAS) as tenant, session(ADMIN) as admin:
        found = [*_of_places(tenant, admin), *_of_schema(DEFAULT_DB_ALIAS), *_of_rows(admin)]
        for alias, own in ((DEFAULT_DB_ALIAS, tenant), (ADMIN, admin)):
            found += _of_server(alias, own)
    if found:
        raise SplitError("\n".join(found))


def _of_places(tenant: psycopg.Connection, admin: psycopg.Connection) -> Iterator[str]:
    places = [(system_identifier(own), own.info.dbname) for own in (tenant, admin)]
    if places[0] == places[1]:
        yield "ADMIN_DATABASE_URL and DATABASE_URL name the same database. Make another one, and name it."


def refuse_unrepairable(tenant: psycopg.Connection, admin: psycopg.Connection) -> None:
    """Raise SplitError where one cannot follow the other, as when a restored one is not at the newest version."""
    if found := [*_of_places(tenant, admin), *_of_schema(DEFAULT_DB_ALIAS), *_of_schema(ADMIN)]:
        raise SplitError("\n".join(found))


def refuse_unready_publisher(admin: psycopg.Connection) -> None:
    """Raise SplitError where the Admin database's server, a new one perhaps, lets nobody follow."""
    if found := [*_of_server(ADMIN, admin)]:
        raise SplitError("\n".join(found))


def _of_schema(alias: str) -> Iterator[str]:
    pending = DatabaseVersion(connections[alias], version_list.read()).pending
    if pending:
        where = " in the Admin database" if alias == ADMIN else ""
        yield f"the version {pending[0]} is pending{where}. Run manage.py migrate first."


def _of_rows(admin: psycopg.Connection) -> Iterator[str]:
    for table in placement.admin_tables():
        if admin.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchone()[0]:
            (filled,) = admin.execute(
                sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(table))
            ).fetchone()
            if filled:
                yield (
                    f"the Admin database holds rows of {table} already. Name an empty database by ADMIN_DATABASE_URL, "
                    "or empty it where nobody needs them."
                )


def _of_server(alias: str, own: psycopg.Connection) -> Iterator[str]:
    wal_level, version, has_slots, is_super, replicates, role, monitors = own.execute(FACTS).fetchone()
    what = f"the server of the database {alias!r}"
    if wal_level != "logical":
        yield (
            f"{what} has wal_level {wal_level}. ALTER SYSTEM SET wal_level = logical; and restart it, which ends its "
            "sessions: logical replication needs that in the log."
        )
    if not has_slots:
        yield f"{what} has no replication slot left. Raise max_replication_slots, which takes a restart."
    if not replicates:
        yield f"{what} lets {role} make no replication slot. As a superuser: ALTER ROLE {role} REPLICATION;"
    if not monitors:
        yield f"{what} does not show {role} how far replication is. As a superuser: GRANT pg_monitor TO {role};"
    if is_super:
        return
    if version < OLDEST_FOR_OTHERS:
        yield f"{what} is PostgreSQL {version // 10000}, where superusers alone subscribe. Name one in its URL."
    elif not own.execute(MAY_SUBSCRIBE).fetchone()[0]:
        yield (
            f"{what} lets {role} make no subscription. As a superuser: GRANT pg_create_subscription TO {role}; "
            f"GRANT CREATE ON DATABASE {own.info.dbname} TO {role};"
        )
