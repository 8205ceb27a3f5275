"""The scratch database: beside the configured one, of the same role, gone afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import ProgrammingError
from django.db.backends.base.base import BaseDatabaseWrapper

from keyhub.identifiers import with_ending
from keyhub.lockledger.ledger import LedgerError
from keyhub.migrate.runner_lock import lock_key, refuse_transaction_pooler

SUFFIX = "_lockledger_scratch"
LOCK_NAME = "keyhub.lockledger"
INSUFFICIENT_PRIVILEGE = "42501"


def scratch_name(database: str) -> str:
    return with_ending(database, SUFFIX)


@contextmanager
def scratch_database(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Point a connection of Django's at a new, empty database, and drop that one at the end.

    One that a killed run left behind is dropped first. Raises LedgerError, PoolerError.
    """
    database = connection.settings_dict["NAME"]
    name = scratch_name(database)
    admin = connection.copy()
    try:
        admin.ensure_connection()
        refuse_transaction_pooler(admin)
        with admin.cursor() as cursor:
            _refuse_second_run(cursor, database)
            quoted = connection.ops.quote_name(name)
            # With it go the statements that a killed run may have left running there.
            drop = f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)"
            cursor.execute(drop)
            try:
                _create(cursor, quoted)
                connection.close()
                connection.settings_dict["NAME"] = name
                yield
            finally:
                connection.close()
                connection.settings_dict["NAME"] = database
                cursor.execute(drop)
    finally:
        admin.close()


def _refuse_second_run(cursor, database: str) -> None:
    # Of the session: a killed run leaves no lock.
    cursor.execute("SELECT pg_try_advisory_lock(%s)", [lock_key(LOCK_NAME)])
    if not cursor.fetchone()[0]:
        raise LedgerError(f"another lockledger is at work beside the database {database}. Wait until it has ended.")


def _create(cursor, quoted_name: str) -> None:
    try:
        # Nobody can be connected to template0, and nobody has put anything into it.
        cursor.execute(f"CREATE DATABASE {quoted_name} TEMPLATE template0")
    except ProgrammingError as error:
        if error.__cause__.sqlstate != INSUFFICIENT_PRIVILEGE:
            raise
        cursor.execute("SELECT current_user")
        raise LedgerError(
            f"the role {cursor.fetchone()[0]} may not create databases, and the ledger is made in a scratch database. "
            "Run it where the role may: in development, or after ALTER ROLE … CREATEDB."
        ) from error
