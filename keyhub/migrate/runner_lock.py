"""One runner of migrations at a time: an advisory lock of the session, taken by polling.

A blocking pg_advisory_lock() would hold a snapshot, for which another session's CREATE INDEX CONCURRENTLY waits: a
deadlock. https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db.backends.base.base import BaseDatabaseWrapper

LOCK_NAME = "keyhub.migrate"
POLL_S = 0.1
TELL_AGAIN_S = 10
POOLER_PROBES = 5


class PoolerError(Exception):
    """The connection goes through a pooler in transaction mode; the text is one sentence for people."""


class RunnerLockError(Exception):
    """Another runner kept the lock for the whole waiting time; the text is one sentence for people."""


def lock_key(name: str = LOCK_NAME) -> int:
    """The key of the lock, a signed 64-bit number, from a hash of its name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


@contextmanager
def only_runner(connection: BaseDatabaseWrapper, wait_s: float, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the runner's lock of the connection's database; `tell` who has it while waiting at most `wait_s` seconds.

    The lock ends with the session, so a killed runner leaves none behind.
    Raises RunnerLockError, PoolerError.
    """
    refuse_transaction_pooler(connection)
    key = lock_key()
    deadline = time.monotonic() + wait_s
    told_at = None
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('application_name', %s, false)", [_application_name()])
        while True:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [key])
            if cursor.fetchone()[0]:
                break
            if time.monotonic() >= deadline:
                raise RunnerLockError(
                    f"another migrate is at work ({_holder(cursor, key)}) and has not ended in {wait_s:g} seconds. "
                    "Wait for it, or run this again with a longer --wait-s."
                )
            if told_at is None or time.monotonic() - told_at > TELL_AGAIN_S:
                tell(f"Waiting for another migrate ({_holder(cursor, key)}).")
                told_at = time.monotonic()
            time.sleep(POLL_S)
    try:
        yield
    finally:
        # After a broken connection there is no session, and no lock, any more.
        if connection.connection is not None and not connection.connection.closed:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [key])


def refuse_transaction_pooler(connection: BaseDatabaseWrapper) -> None:
    """Raise PoolerError where other clients can get this client's server session between two transactions.

    A pooler gives its clients process ids of its own, which tells that there is one. In transaction mode the session
    that served the last statement is free again, and the next client is given it.
    """
    if _server_pid(connection) == connection.connection.info.backend_pid:
        return
    other = connection.copy()
    try:
        other.connect()
        for _ in range(POOLER_PROBES):
            if _server_pid(connection) == _server_pid(other):
                raise PoolerError(
                    "the database is reached through a pooler in transaction mode, which hands a session's locks and "
                    "settings to other clients. Set DIRECT_DATABASE_URL to the server itself, for manage.py's commands."
                )
    finally:
        other.close()


def _server_pid(connection: BaseDatabaseWrapper) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def _application_name() -> str:
    # The server cuts names at 63 bytes; the process id comes first, so that it is never what is lost.
    return f"keyhub migrate {os.getpid()}@{socket.gethostname()}"[:63]


def _holder(cursor, key: int) -> str:
    cursor.execute(
        """
        SELECT pid, application_name, date_trunc('second', backend_start)::text
        FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database
                                                                WHERE datname = current_database())
          AND (classid::bigint << 32) + objid::bigint = %s AND objsubid = 1
        """,
        [key],
    )
    row = cursor.fetchone()
    if row is None:
        return "which has just ended"
    pid, application, since = row
    return f"server process {pid}, {application}, since {since}"
