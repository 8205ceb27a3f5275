"""Who holds the lock that a session waits for, looked up from a second session while it waits."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

LOOK_EVERY_S = 0.1
SESSIONS = """
    SELECT pid, application_name, usename, state,
           date_trunc('second', statement_timestamp() - xact_start)::text,
           left(regexp_replace(query, '\\s+', ' ', 'g'), 80)
    FROM {pids} AS found (pid) JOIN pg_stat_activity USING (pid)
    ORDER BY xact_start
"""
BLOCKERS = SESSIONS.format(pids="unnest(pg_blocking_pids(%s))")
LONGEST_SHORT_S = 0.05
HOLDERS = SESSIONS.format(
    pids="(SELECT DISTINCT pid FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE relation = ANY (%s::regclass[]) AND granted AND pid <> pg_backend_pid() "
    "AND xact_start < statement_timestamp() - make_interval(secs => %s))"
)


class BlockerWatch:
    """Remembers whom a session was last seen waiting for."""

    def __init__(self, connection: BaseDatabaseWrapper):
        self._watched = connection
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (self._pid,) = cursor.fetchone()
        self._seen: list[str] = []
        self._ready = threading.Event()
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator["BlockerWatch"]:
        thread = threading.Thread(target=self._watch, name="keyhub-blockers", daemon=True)
        thread.start()
        # Connecting can take longer than a try.
        self._ready.wait()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def take(self) -> list[str]:
        """Return one sentence for each blocker seen since the last call."""
        seen, self._seen = self._seen, []
        return seen

    def add(self, seen: list[str]) -> None:
        self._seen = seen or self._seen

    def _watch(self) -> None:
        # A connection of Django belongs to the thread that made it.
        connection = self._watched.copy()
        try:
            connection.ensure_connection()
            self._ready.set()
            while not self._stop.wait(LOOK_EVERY_S):
                with connection.cursor() as cursor:
                    cursor.execute(BLOCKERS, [self._pid])
                    if rows := cursor.fetchall():
                        self._seen = [_sentence(*row) for row in rows]
        except DatabaseError as error:
            # Say, a server that has no connection to spare: the migration goes on without knowing its blockers.
            self._seen = [f"it could not be looked up ({' '.join(str(error).split())})"]
        finally:
            self._ready.set()
            connection.close()


def holders(connection: BaseDatabaseWrapper, tables: list[str]) -> list[str]:
    """One sentence for each session that has had a lock on one of these tables for longer than a request takes."""
    with connection.cursor() as cursor:
        cursor.execute(HOLDERS, [tables, LONGEST_SHORT_S])
        return [_sentence(*row) for row in cursor.fetchall()]


def _sentence(pid: int, application: str, user: str, state: str | None, duration: str | None, query: str) -> str:
    who = f"pid {pid} ({application or 'no application name'}, user {user})"
    if state is None:
        return f"{who}, of which only a member of pg_read_all_stats sees more"
    return f"{who}, {state} for {duration}: {query}"
