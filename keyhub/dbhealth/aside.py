"""A session beside that of an examination: in the other database, or to see what has come since its snapshot."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from keyhub.dbhealth.examination import LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS

CONNECT_TIMEOUT_S = 2  # the least that libpq takes, for each address
# How long is waited for what is on its way, before it is told that it does not come.
GRACE_S = 1.5
POLL_S = 0.1


@contextmanager
def aside(alias: str) -> Iterator[BaseDatabaseWrapper]:
    """A session in a read-only transaction, in which each statement sees what has come by then.

    Raises DatabaseError where it cannot be had.
    """
    own = connections[alias].copy()
    own.settings_dict["OPTIONS"] = {
        **own.settings_dict["OPTIONS"],
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": "keyhub dbhealth",
    }
    try:
        with own.cursor() as cursor:
            # Behind PgBouncer another client would get what a session is set to.
            cursor.execute(
                "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY; "
                f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"
            )
        yield own
    finally:
        own.close()


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether a condition holds, or comes to do so within GRACE_S."""
    deadline = time.monotonic() + GRACE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
