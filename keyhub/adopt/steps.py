"""Running the steps of an adoption, each by the rules that migrate keeps: short waits for strong locks, and retries."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import OperationalError, transaction

from keyhub.migrate.blockers import BlockerWatch, holders
from keyhub.migrate.executor import CLIENT_CONNECTION_CHECK_INTERVAL_MS, Result, SafeMigrationExecutor

# Of a step for which everybody waits: what it waits for its lock, and what it does under it, are to stay under 50 ms.
SHORT_LOCK_TIMEOUT_MS = 20
# Nobody but DDL and vacuums waits behind this one; the server ends its own vacuums for it after deadlock_timeout (1 s).
VACUUM_TIMEOUT_MS = 5_000


class Steps(SafeMigrationExecutor):
    """A runner of single steps, each told when it is done. A step is one transaction, or one patient statement."""

    @contextmanager
    def at_work(self) -> Iterator["Steps"]:
        self._set("client_connection_check_interval", CLIENT_CONNECTION_CHECK_INTERVAL_MS)
        self._set("lock_timeout", self.policy.lock_timeout_ms)
        watch = BlockerWatch(self.connection)
        try:
            with watch.running() as self.blockers:
                yield self
        finally:
            if self.connection.is_usable():
                self._set("lock_timeout", 0)

    def in_transaction(self, what: str, attempt: Callable[[], Result]) -> Result:
        """Call `attempt` in a transaction, again where it does not get its locks."""

        def in_transaction():
            with transaction.atomic(using=self.connection.alias):
                return attempt()

        return self._until_locks_are_got(what, in_transaction)

    def in_short_transaction(
        self,
        what: str,
        attempt: Callable[[], Result],
        tables: list[str],
        before: Callable[[], object] = lambda: None,
    ) -> Result:
        """As in_transaction(), for locks that everybody who uses these tables waits for. `before` runs before each try.

        SHORT_LOCK_TIMEOUT_MS is too short for the watch, so whoever is in the way is looked up after a try; and too
        short for the server to end an autovacuum, so vacuums are held off first, for which nobody has to wait.
        """

        def in_transaction():
            before()
            try:
                with transaction.atomic(using=self.connection.alias):
                    self.execute(f"SET LOCAL lock_timeout = {VACUUM_TIMEOUT_MS}")
                    self.execute(f"LOCK TABLE {', '.join(tables)} IN SHARE UPDATE EXCLUSIVE MODE")
                    self.execute(f"SET LOCAL lock_timeout = {min(SHORT_LOCK_TIMEOUT_MS, self.policy.lock_timeout_ms)}")
                    return attempt()
            except OperationalError:
                self.blockers.add(holders(self.connection, tables))
                raise

        return self._until_locks_are_got(what, in_transaction)

    def run_shortly(self, what: str, tables: list[str], *statements: str) -> None:
        """As run(), for locks that everybody who uses these tables waits for."""
        self.in_short_transaction(what, lambda: [self.execute(statement) for statement in statements], tables)
        self.tell(f"{what}.")

    def run(self, what: str, *statements: str) -> None:
        """Run statements in one transaction, and tell."""
        self.in_transaction(what, lambda: [self.execute(statement) for statement in statements])
        self.tell(f"{what}.")

    def run_patiently(self, what: str, statement: str) -> None:
        """Run one statement, during whose wait nobody has to wait, and tell."""
        self._set("lock_timeout", 0)
        try:
            self.execute(statement)
        finally:
            if self.connection.is_usable():
                self._set("lock_timeout", self.policy.lock_timeout_ms)
        self.tell(f"{what}.")

    def execute(self, statement: str) -> int:
        """Run one statement, in which % means itself; return its row count."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.rowcount

    def rows(self, query: str, *parameters, **named) -> list[tuple]:
        with self.connection.cursor() as cursor:
            cursor.execute(query, parameters or named or None)
            return cursor.fetchall()
