"""A new database like the one that a backup was made of, and the swap with the one in use."""

import re
import threading
from datetime import UTC, datetime

import psycopg
from psycopg import sql
from psycopg.errors import DuplicateDatabase, InsufficientPrivilege, ObjectInUse

from keyhub.dbbackup.errors import BackupError
from keyhub.identifiers import LONGEST_NAME_BYTES, with_ending

UNFINISHED = "_unfinished"
TERMINATE_EVERY_S = 0.02
SWAP_TRIES = 5
PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
LOCALES = {"i": "ICU_LOCALE", "b": "BUILTIN_LOCALE"}
# Their elements are quoted each for itself, as pg_dump does it.
LIST_SETTINGS = {
    "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
    "temp_tablespaces", "unix_socket_directories",
}  # fmt: skip
# Those whom this role may disconnect: the first other one would end the statement. PostgreSQL itself ends autovacuum's.
TERMINATE = """
    SELECT pg_terminate_backend(pid)
    FROM pg_stat_activity JOIN pg_roles AS theirs ON theirs.oid = usesysid JOIN pg_roles AS ours
        ON ours.rolname = current_user
    WHERE datname = %s AND pid <> pg_backend_pid() AND (ours.rolsuper OR NOT theirs.rolsuper
        AND (pg_has_role(usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')))
"""


def refuse_long(name: str) -> None:
    """Raise BackupError where a name, with what it bears until it is finished, is longer than PostgreSQL keeps."""
    longest = LONGEST_NAME_BYTES - len(UNFINISHED)
    if not 0 < len(name.encode()) <= longest or "\0" in name:
        raise BackupError(f"{name!r} can be no name of a database: write 1 to {longest} bytes.")


def exists(connection: psycopg.Connection, name: str) -> bool:
    return connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount > 0


def create(connection: psycopg.Connection, name: str, properties: dict) -> None:
    """Create an empty database with the encoding and the locale of the properties. Raises BackupError."""
    provider = properties["datlocprovider"]
    options = {
        "ENCODING": properties["encoding"],
        "LOCALE_PROVIDER": PROVIDERS[provider],
        "LC_COLLATE": properties["datcollate"],
        "LC_CTYPE": properties["datctype"],
    }
    if provider in LOCALES:
        options[LOCALES[provider]] = properties["locale"]
    # Nobody can be connected to template0, and nobody has put anything into it.
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 {}").format(
        sql.Identifier(name),
        sql.SQL(" ").join(sql.SQL(f"{option} {{}}").format(sql.Literal(value)) for option, value in options.items()),
    )
    try:
        connection.execute(statement)
    except DuplicateDatabase as error:
        raise BackupError(f"the database {name} exists already. Is another restore at work? Else drop it.") from error
    except InsufficientPrivilege as error:
        role = connection.info.user
        raise BackupError(
            f"the role {role} may not create databases, and a backup needs a new one. Connect as a role that may, "
            f"or let a superuser say: ALTER ROLE {role} CREATEDB"
        ) from error
    except psycopg.Error as error:
        raise BackupError(f"the database {name} cannot be created: {' '.join(str(error).split())}.") from error


def apply_properties(connection: psycopg.Connection, name: str, properties: dict) -> None:
    """Give a database the owner, the settings and the grants of the properties. Raises BackupError."""
    database = sql.Identifier(name)
    statements = [sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(database, properties["datconnlimit"])]
    for role, setting in properties["settings"]:
        variable, _, value = setting.partition("=")
        subject = sql.SQL("DATABASE {}").format(database)
        if role is not None:
            subject = sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
        name_of_setting = sql.SQL(".").join(map(sql.Identifier, variable.split(".")))
        statements.append(sql.SQL("ALTER {} SET {} TO {}").format(subject, name_of_setting, _value(variable, value)))
    if properties["grants"] is not None:
        statements.append(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        for grantee, privilege, grantable in properties["grants"]:
            statements.append(
                sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
                    sql.SQL(_privilege(privilege)), database,
                    sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC"),
                    sql.SQL(" WITH GRANT OPTION" if grantable else ""),
                )
            )  # fmt: skip
    # Last: from then on it is the owner's to change.
    statements.append(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, sql.Identifier(properties["owner"])))
    try:
        with connection.transaction():
            for statement in statements:
                connection.execute(statement)
    except psycopg.Error as error:
        raise BackupError(f"the database {name} could not be set up: {' '.join(str(error).split())}.") from error


def _value(variable: str, value: str) -> sql.Composable:
    if variable not in LIST_SETTINGS:
        return sql.Literal(value)
    elements = [quoted.replace('""', '"') or bare for quoted, bare in re.findall(r'"((?:[^"]|"")*)"|([^,\s]+)', value)]
    return sql.SQL(", ").join(map(sql.Literal, elements))


def _privilege(name: str) -> str:
    if name not in ("CONNECT", "CREATE", "TEMPORARY"):
        raise BackupError(f"the backup grants {name!r} on its database, which this PostgreSQL does not know.")
    return name


def rename(connection: psycopg.Connection, old: str, new: str) -> None:
    """Raises BackupError where the new name is taken meanwhile."""
    try:
        connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))
    except DuplicateDatabase as error:
        raise BackupError(
            f"the database {new} was made meanwhile by somebody else. Restore into another name."
        ) from error


def drop(connection: psycopg.Connection, name: str) -> None:
    statement = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name))
    try:
        connection.execute(statement + sql.SQL(" WITH (FORCE)"))
    except InsufficientPrivilege:
        # PostgreSQL 15 asks for a superuser's right to end an autovacuum worker, which a plain DROP ends by itself.
        connection.execute(statement)


def swap(first: psycopg.Connection, second: psycopg.Connection, restored: str, live: str) -> str:
    """Put a restored database in the place of the live one, in one transaction; return the name that the old one has.

    Who is connected to the live one is disconnected; who connects within the few milliseconds is told that the database
    has just been renamed, and is let in when he tries again. The two connections are to a third database.
    Raises BackupError, with nothing changed.
    """
    kept = with_ending(live, f"_replaced_{datetime.now(UTC):%Y%m%d_%H%M%S}")
    for _ in range(SWAP_TRIES):
        try:
            _swap_once(first, second, restored, live, kept)
            return kept
        except ObjectInUse as error:
            in_use = error
        except psycopg.Error as error:
            raise BackupError(f"nothing was swapped: {' '.join(str(error).split())}.") from error
    raise BackupError(
        f"the database {live} is still in use ({' '.join(str(in_use).split())}), and nothing was swapped. "
        "End its prepared transactions and replication slots, then swap by renaming."
    ) from in_use


def _swap_once(first, second, restored: str, live: str, kept: str) -> None:
    """Rename both, while another session disconnects who is left: the rename holds a lock that lets nobody new in, and
    waits up to five seconds for the others to be gone."""
    done = threading.Event()

    def disconnect() -> None:
        while not done.is_set():
            for name in (live, restored):
                second.execute(TERMINATE, [name])
            done.wait(TERMINATE_EVERY_S)

    disconnecting = threading.Thread(target=disconnect, daemon=True)
    disconnecting.start()
    try:
        with first.transaction():
            rename(first, live, kept)
            rename(first, restored, live)
    finally:
        done.set()
        disconnecting.join()
