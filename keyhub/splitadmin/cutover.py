"""The moment in which writers are paused: each side is looked at in one snapshot, and the home may change.

Writers wait for a lock that lets readers go on, for less than a second: the lock is asked for at most LOCK_TIMEOUT_MS
at a time, and held for at most PAUSE_LIMIT_S, or nothing has happened. Who has waited is refused with KH001 and looks
for the rows where they are from then on (keyhub.statements.follows_moves).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from keyhub import placement
from keyhub.splitadmin.digests import Difference, compare
from keyhub.splitadmin.errors import SplitError
from keyhub.splitadmin.replication import Feed, position
from keyhub.splitadmin.sessions import session

LOCK_TIMEOUT_MS = 200
PAUSE_LIMIT_S = 0.7
TRIES = 50
PAUSE_BETWEEN_S = 0.5
POLL_S = 0.005

COPY_TRIGGER, DELETION_TRIGGER = "refuse_writes_of_copy", "refuse_deletion"


class NotCaughtUpError(Exception):
    """The other side did not have everything in time; writers go on as before."""


@dataclass(frozen=True)
class Compared:
    """What both sides had while writers were paused, and for how long they were, in seconds."""

    rows: int
    differences: list[Difference]
    paused_s: float


@dataclass(frozen=True)
class Pause:
    """A way of pausing the writers of `home`: `copy` follows it by `feed`, and `tell` hears of tries that failed."""

    home: str
    copy: str
    feed: Feed
    tell: Callable[[str], None]

    def rehearse(self) -> Compared:
        """Pause writers until the copy has everything, look at both sides, let writers go on, and compare.

        Raises SplitError where writers cannot be paused.
        """
        return self.cut_over(lambda home, copy: None, lambda copy: None)

    def cut_over(
        self,
        change: Callable[[psycopg.Connection, psycopg.Connection], None],
        undo: Callable[[psycopg.Connection], None],
    ) -> Compared:
        """As rehearse(), and while writers are paused call `change` with a session of the home and one of the copy.

        That of the home is in the transaction that holds the lock, and commits when `change` is done; where it fails,
        `undo` is called with that of the copy.
        """
        with ExitStack() as stack:
            aliases = (self.home, self.copy, self.home, self.copy)
            home, copy, before, after = (stack.enter_context(session(alias)) for alias in aliases)
            copy.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
            for number in range(1, TRIES + 1):
                try:
                    paused_s = _once(home, copy, before, after, self.feed, change)
                    break
                except (NotCaughtUpError, errors.LockNotAvailable, errors.DeadlockDetected) as error:
                    undo(copy)
                    reason = " ".join(str(error).split()).rstrip(".")
                    if number == TRIES:
                        raise SplitError(
                            f"writers were not paused in {TRIES} tries ({reason}), and nothing was changed. Look for "
                            "long transactions on organizations and console_sessions, and run this again later."
                        ) from error
                    self.tell(f"Writers go on, try {number} of {TRIES}: {reason}.")
                    time.sleep(PAUSE_BETWEEN_S)
            rows, differences = compare(before, after, placement.admin_tables())
            return Compared(rows, differences, paused_s)


def _once(home, copy, before, after, feed: Feed, change) -> float:
    """Pause writers once; for how long, in seconds. Both snapshots stay open where it has come to its end."""
    tables = sql.SQL(", ").join(map(sql.Identifier, placement.admin_tables()))
    started_at = time.monotonic()
    with home.transaction():
        home.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        home.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(tables))
        lsn = position(before)
        while not feed.has_applied(before, lsn):
            if time.monotonic() - started_at > PAUSE_LIMIT_S:
                raise NotCaughtUpError("the copy did not catch up in time")
            time.sleep(POLL_S)
        for snapshot in (before, after):
            snapshot.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            snapshot.execute("SELECT FROM pg_class LIMIT 1")
        try:
            change(home, copy)
        except BaseException:
            for snapshot in (before, after):
                snapshot.execute("ROLLBACK")
            raise
    return time.monotonic() - started_at


def close_to_writers(session: psycopg.Connection) -> None:
    """Let the tables of a session's database refuse to be written."""
    _switch(session, placement.admin_tables(), COPY_TRIGGER, "ENABLE")


def open_to_writers(session: psycopg.Connection) -> None:
    _switch(session, placement.admin_tables(), COPY_TRIGGER, "DISABLE")


def guard_deletions(session: psycopg.Connection, guarded: bool) -> None:
    """Let no row be deleted to which rows of the other database may refer."""
    _switch(session, placement.followed_tables(), DELETION_TRIGGER, "ENABLE" if guarded else "DISABLE")


def _switch(session: psycopg.Connection, tables: tuple[str, ...], trigger: str, verb: str) -> None:
    for table in tables:
        session.execute(
            sql.SQL("ALTER TABLE {} {} TRIGGER {}").format(
                sql.Identifier(table), sql.SQL(verb), sql.Identifier(trigger)
            )
        )


@contextmanager
def writing_copies(session: psycopg.Connection) -> Iterator[None]:
    """A transaction in which the tables of a copy may be written all the same."""
    with session.transaction():
        session.execute("SET LOCAL keyhub.writes_copies = on")
        yield
