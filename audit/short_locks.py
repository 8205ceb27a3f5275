"""Locks that nobody has to wait behind for 50 ms: short waits and many tries; and one run at a time."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from audit.months import PartitionError

T = TypeVar("T")

# Whoever comes while we wait for a strong lock waits behind us, and then for as long as we hold it.
LOCK_TIMEOUT_MS = 40
TRIES = 100
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.25
# Nobody but DDL and vacuums waits behind this one; the server ends its own vacuums for it after deadlock_timeout (1 s).
VACUUM_TIMEOUT_MS = 5_000
WAIT_FOR_OTHER_RUN_S = 600
LOCK_NAME = "keyhub.auditpartitions"
LOCK_NOT_AVAILABLE = "55P03"


class PartitionLockError(PartitionError):
    """A lock was not to be had in all tries; nothing has changed for that month."""


def until_locks_are_got(step: Callable[[], T], failed: str, because: str) -> T:
    """Try a step, which sets its lock_timeout, TRIES times.

    Raises PartitionLockError: what `failed`, `because` of whom, and what to do.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            return step()
        except DatabaseError as error:
            if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            if not tries_left:
                raise PartitionLockError(
                    f"{failed} in {TRIES} tries, because {because} ({str(error).strip()}). "
                    "End the long transactions and run it again."
                ) from error
            time.sleep(random.uniform(SHORTEST_PAUSE_S, LONGEST_PAUSE_S))  # noqa: S311 jitter
    raise AssertionError("unreachable")


def keep_vacuums_out(cursor, *tables: str) -> None:
    """Hold off, until the transaction's end, what vacuums or changes these tables; then set the short lock_timeout.

    An autovacuum would be in the way of a strong lock for as long as it takes: the server ends it only for somebody who
    waits longer than LOCK_TIMEOUT_MS.
    """
    cursor.execute(f"SET LOCAL lock_timeout = {VACUUM_TIMEOUT_MS}")
    cursor.execute(f"LOCK TABLE ONLY {', ONLY '.join(tables)} IN SHARE UPDATE EXCLUSIVE MODE")
    cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")


@contextlib.contextmanager
def only_run(connection: BaseDatabaseWrapper, name: str = LOCK_NAME) -> Iterator[None]:
    """Hold the lock of this name while the block runs. Raises PartitionLockError after WAIT_FOR_OTHER_RUN_S."""
    deadline = time.monotonic() + WAIT_FOR_OTHER_RUN_S
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])
            if cursor.fetchone()[0]:
                break
            if time.monotonic() > deadline:
                raise PartitionLockError(
                    f"another auditpartitions has been at work for {WAIT_FOR_OTHER_RUN_S} seconds. "
                    "Wait for its end, or end it, and run this again."
                )
            time.sleep(0.1)
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])
