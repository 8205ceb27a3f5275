"""Deleting sessions, sign-ins and console sessions that have ended, in small batches."""

from collections.abc import Callable
from dataclasses import dataclass

from django.db import DatabaseError, connections, transaction
from psycopg import errors

from keyhub import placement
from keyhub.statements import follows_moves

BATCH_ROWS = 1_000
LOCK_TIMEOUT_MS = 500
KEEP_DAYS = 30

# A session that was revoked by a service that does not know revoked_at counts from its beginning.
CONDITIONS = {
    "sessions": "expires_at < {cutoff} OR revoked AND coalesce(revoked_at, created_at) < {cutoff}",
    "oauth_states": "created_at < statement_timestamp() - interval '1 day'",
    "console_sessions": "expires_at <= statement_timestamp()",
}
# By an index, so that those that ended long ago are found first.
ORDER = {"sessions": "expires_at", "oauth_states": "created_at", "console_sessions": "expires_at"}


class PurgeError(Exception):
    """Nothing can be deleted here; the text is one sentence for people."""


class PurgeLockError(PurgeError):
    """A lock was not to be had; what was deleted until then stays deleted."""


@dataclass(frozen=True)
class Purge:
    """What has ended, for sessions more than `keep_days` ago; where each is written, or of `database` alone."""

    database: str | None = None
    keep_days: int = KEEP_DAYS

    def planned(self) -> dict[str, int]:
        """How many rows of each table would be deleted."""
        counts = {}
        for table in self.tables():
            with connections[placement.home_of(table)].cursor() as cursor:
                cursor.execute(f"SELECT count(*) FROM {table} WHERE {self._condition(table)}")  # noqa: S608 own words
                counts[table] = cursor.fetchone()[0]
        return counts

    def tables(self) -> list[str]:
        return [table for table in CONDITIONS if self.database in (None, placement.home_of(table))]

    def run(self, advance: Callable[[str, int], None]) -> None:
        """Delete them, and tell `advance` the table and the number of rows after each batch.

        Each batch is a transaction of its own, so it can be killed at any moment. Rows that somebody holds are left to
        the next run. Raises PurgeError.
        """
        for table in self.tables():
            while deleted := self._delete_batch(table):
                advance(table, deleted)

    @follows_moves
    def _delete_batch(self, table: str) -> int:
        database = placement.home_of(table)
        # An array, not IN: the inner SELECT is then run once, whatever the plan is.
        statement = (
            f"DELETE FROM {table} WHERE id = ANY (ARRAY(SELECT id FROM {table} WHERE {self._condition(table)} "  # noqa: S608
            f"ORDER BY {ORDER[table]} LIMIT {BATCH_ROWS} FOR UPDATE SKIP LOCKED))"
        )
        try:
            with transaction.atomic(using=database), connections[database].cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                cursor.execute(statement)
                return cursor.rowcount
        except DatabaseError as error:
            match getattr(error.__cause__, "sqlstate", None):
                case errors.LockNotAvailable.sqlstate:
                    raise PurgeLockError(
                        f"somebody holds a lock on {table} for longer than {LOCK_TIMEOUT_MS} ms. Run it again later."
                    ) from error
                case errors.ReadOnlySqlTransaction.sqlstate:
                    raise PurgeError(
                        "the database only reads, as a standby does. Let DATABASE_URL lead to the primary: add "
                        "target_session_attrs=read-write."
                    ) from error
            raise

    def _condition(self, table: str) -> str:
        return CONDITIONS[table].format(cutoff=f"statement_timestamp() - make_interval(days => {int(self.keep_days)})")
