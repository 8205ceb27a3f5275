"""Sessions of our own beside Django's: no statement of theirs ends by a timeout that is meant for the application's."""

from django.db.backends.base.base import BaseDatabaseWrapper

NO_TIMEOUTS = """
    SELECT set_config(name, '0', false) FROM pg_settings
    WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')
"""


def open_session(
    connection: BaseDatabaseWrapper, database: str | None = None, alias: str | None = None
) -> BaseDatabaseWrapper:
    """A new session on a connection's server, in its database or another one; the caller closes it.

    Raises psycopg.OperationalError where it cannot be had.
    """
    own = connection.copy(alias=alias)
    own.settings_dict["NAME"] = database or own.settings_dict["NAME"]
    own.connect()
    own.connection.execute(NO_TIMEOUTS)
    return own
