"""Two that change the same rows at once, each in a transaction of its own whose snapshot is older than both changes."""

import threading
import time
from collections.abc import Callable

from django.db import connection, transaction
from django.db.utils import Error

ISOLATIONS = ["READ COMMITTED", "REPEATABLE READ"]


def rivals(server, isolation: str | tuple[str, str], first: Callable, second: Callable) -> tuple:
    """Run both on the database that Django is connected to: the second begins its change before the first commits.

    Isolation is that of both, or of each. Returns what each returned or raised, of an error of the database the
    SQLSTATE.
    """
    isolations = (isolation, isolation) if isinstance(isolation, str) else isolation
    outcomes: list = [None, None]
    snapshot_taken, first_has_changed = threading.Event(), threading.Event()
    backend: list[int] = []

    def second_transaction() -> None:
        try:
            with transaction.atomic():
                backend.append(_take_snapshot(isolations[1]))
                snapshot_taken.set()
                first_has_changed.wait(timeout=30)
                outcomes[1] = second()
        except Exception as error:  # noqa: BLE001 a thread's error is its outcome
            outcomes[1] = _outcome(error)
        finally:
            snapshot_taken.set()
            connection.close()

    thread = threading.Thread(target=second_transaction)
    try:
        with transaction.atomic():
            _take_snapshot(isolations[0])
            thread.start()
            snapshot_taken.wait(timeout=30)
            outcomes[0] = first()
            first_has_changed.set()
            _wait_until_it_waits(server, thread, backend)
    except Exception as error:  # noqa: BLE001
        outcomes[0] = _outcome(error)
    first_has_changed.set()
    thread.join(timeout=60)
    return tuple(outcomes)


def _take_snapshot(isolation: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        cursor.execute("SELECT pg_backend_pid() FROM pg_class LIMIT 1")
        return cursor.fetchone()[0]


def _wait_until_it_waits(server, thread: threading.Thread, backend: list[int]) -> None:
    with server.connect() as admin:
        deadline = time.monotonic() + 10
        while thread.is_alive() and time.monotonic() < deadline:
            if admin.execute("SELECT FROM pg_locks WHERE NOT granted AND pid = ANY (%s)", [backend]).rowcount:
                return
            time.sleep(0.005)


def _outcome(error: Exception) -> object:
    return error.__cause__.sqlstate if isinstance(error, Error) else error
