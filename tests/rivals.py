"""Two that change the same rows at once, each in a transaction of its own whose snapshot is older than both changes."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from django.db import connection, transaction
from django.db.utils import Error

ISOLATIONS = ["READ COMMITTED", "REPEATABLE READ"]


def rivals(server, isolation: str | tuple[str, str], first: Callable, second: Callable) -> tuple:
    """Run both on the database that Django is connected to: the second begins its change before the first commits.

    Isolation is that of both, or of each. Returns what each returned or raised, of an error of the database the
    SQLSTATE.
    """
    isolations = (isolation, isolation) if isinstance(isolation, str) else isolation
    snapshot_taken, first_has_changed = threading.Event(), threading.Event()
    backend: list[int] = []

    def second_transaction() -> object:
        try:
            with transaction.atomic():
                backend.append(_take_snapshot(isolations[1]))
                snapshot_taken.set()
                first_has_changed.wait(timeout=30)
                return second()
        finally:
            snapshot_taken.set()
            connection.close()

    def first_transaction() -> object:
        try:
            with transaction.atomic():
                _take_snapshot(isolations[0])
                snapshot_taken.wait(timeout=30)
                changed = first()
                first_has_changed.set()
                _wait_until_it_waits(server, other, backend)
                return changed
        finally:
            first_has_changed.set()
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(second_transaction)
        one = pool.submit(first_transaction)
        return _outcome(one), _outcome(other)


def _take_snapshot(isolation: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        cursor.execute("SELECT pg_backend_pid() FROM pg_class LIMIT 1")
        return cursor.fetchone()[0]


def _wait_until_it_waits(server, step: Future, backend: list[int]) -> None:
    with server.connect() as admin:
        deadline = time.monotonic() + 10
        while not step.done() and time.monotonic() < deadline:
            if admin.execute("SELECT FROM pg_locks WHERE NOT granted AND pid = ANY (%s)", [backend]).rowcount:
                return
            time.sleep(0.005)


def _outcome(step: Future) -> object:
    error = step.exception(timeout=60)
    if error is None:
        return step.result()
    return error.__cause__.sqlstate if isinstance(error, Error) else error
