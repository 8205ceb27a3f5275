"""The rows of a table that two databases have, compared and made the same: by a temporary table that holds the other's.

For tables with an `id`, and an `updated_at` by which a trigger tells when a row was last changed.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import errors, sql

from keyhub.splitadmin.cutover import LOCK_TIMEOUT_MS, PAUSE_BETWEEN_S, TRIES, writing_copies
from keyhub.splitadmin.errors import SplitError

ARRIVING = sql.Identifier("keyhub_arriving")
COLUMNS = """
    SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname
"""
# missing: here; older, newer: than there; other: differs, though of the same time; alone: here and not there.
COMPARE = """
    SELECT coalesce(there.id, here.id)::text, here.updated_at::text,
        CASE WHEN here.id IS NULL THEN 'missing' WHEN there.id IS NULL THEN 'alone'
             WHEN here.updated_at < there.updated_at THEN 'older' WHEN here.updated_at > there.updated_at THEN 'newer'
             ELSE 'other' END
    FROM {table} AS here FULL JOIN {arriving} AS there USING (id)
    WHERE ROW({here}) IS DISTINCT FROM ROW({there})
    ORDER BY 1
"""
UPSERT = """
    INSERT INTO {table} ({columns}) SELECT {columns} FROM {arriving} WHERE id::text = ANY(%s)
    ON CONFLICT (id) DO UPDATE SET ({columns}) = ROW({excluded})
"""
# Whose only work is to say that a row is changed now: here it is changed to what it was there.
CLOCKS = """
    SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND tgfoid = 'update_updated_at_column'::regproc
        AND tgenabled = 'O'
"""


@dataclass
class Differences:
    """The ids of the rows that differ, seen from here; with the `updated_at` that they have here, as text."""

    missing: dict[str, str] = field(default_factory=dict)
    older: dict[str, str] = field(default_factory=dict)
    newer: dict[str, str] = field(default_factory=dict)
    other: dict[str, str] = field(default_factory=dict)
    alone: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Copying:
    """A table `here`, in a transaction in which copies may be written, and the rows that it has `there`.

    `place` is here in a word.
    """

    here: psycopg.Connection
    place: str
    table: str
    columns: list[str]

    def differences(self) -> Differences:
        found = Differences()
        query = self._sql(COMPARE, here=self._columns("here"), there=self._columns("there"))
        for row, updated_at, kind in self.here.execute(query):
            getattr(found, kind)[row] = updated_at
        return found

    def lock(self) -> None:
        """Let nobody else write here until the transaction ends; readers, and keys that refer to rows, go on.

        Raises SplitError where the lock is not to be had.
        """
        self.here.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        for _ in range(TRIES):
            try:
                with self.here.transaction():
                    self.here.execute(self._sql("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"))
                self.here.execute("SET LOCAL lock_timeout = 0")
                return
            except errors.LockNotAvailable:
                time.sleep(PAUSE_BETWEEN_S)
        raise SplitError(
            f"{self.table} was not to be locked in {TRIES} tries. Look for a long transaction that writes to it, and "
            "run this again."
        )

    def take_over(self, rows: list[str]) -> None:
        """Make some rows what they are there, with the times that they have there. Raises SplitError."""
        if not rows:
            return
        clocks = [name for (name,) in self.here.execute(CLOCKS, [self.table])]
        self._switch(clocks, "DISABLE")
        try:
            self._upsert(rows)
        except errors.UniqueViolation:
            self._one_by_one(rows)
        self._switch(clocks, "ENABLE")

    def delete(self, rows: Iterable[str]) -> dict[str, str]:
        """Delete rows to which nothing refers; return the others, each with the table that does."""
        kept = {}
        for row in rows:
            try:
                with self.here.transaction():
                    self.here.execute(self._sql("DELETE FROM {table} WHERE id::text = %s"), [row])
            except errors.ForeignKeyViolation as error:
                kept[row] = error.diag.table_name
        return kept

    def referred(self, rows: Iterable[str]) -> dict[str, str]:
        """As delete(), but nothing is deleted."""
        with self.here.transaction(force_rollback=True):
            return self.delete(rows)

    def _upsert(self, rows: list[str]) -> None:
        with self.here.transaction():
            self.here.execute(self._sql(UPSERT, excluded=self._columns("excluded")), [rows])

    def _one_by_one(self, rows: list[str]) -> None:
        """What is unique may go from one row to another: the row that lets go of it comes first."""
        self.here.execute(self._sql("CREATE INDEX ON {arriving} ((id::text))"))
        while rows:
            refused = []
            for row in rows:
                try:
                    self._upsert([row])
                except errors.UniqueViolation as error:
                    refused.append(row)
                    reason = error.diag.message_detail
            if len(refused) == len(rows):
                raise SplitError(
                    f"{self.table} {refused[0]} cannot be taken over into the {self.place} database: "
                    f"{reason} Change that row there, or the other one, and run this again."
                )
            rows = refused

    def _switch(self, triggers: list[str], verb: str) -> None:
        for trigger in triggers:
            self.here.execute(self._sql(f"ALTER TABLE {{table}} {verb} TRIGGER {{trigger}}", trigger=_name(trigger)))

    def _columns(self, alias: str) -> sql.Composed:
        return sql.SQL(", ").join(sql.Identifier(alias, column) for column in self.columns)

    def _sql(self, text: str, **parts: sql.Composable) -> sql.Composed:
        columns = sql.SQL(", ").join(map(_name, self.columns))
        return sql.SQL(text).format(table=_name(self.table), arriving=ARRIVING, columns=columns, **parts)


@contextmanager
def copying(here: psycopg.Connection, place: str, there: psycopg.Connection, table: str) -> Iterator[Copying]:
    """Bring the rows of a table over from the snapshot, or the moment, that a session there has.

    For as long as the block there is a transaction here, which commits when it ends well.
    """
    with writing_copies(here):
        # A trigger of theirs asks for it; and what was committed while this waited for a lock is to be seen.
        here.execute("SET LOCAL transaction_isolation = 'read committed'")
        copy = Copying(here, place, table, [name for (name,) in here.execute(COLUMNS, [table])])
        here.execute(copy._sql("CREATE TEMPORARY TABLE {arriving} (LIKE {table}) ON COMMIT DROP"))
        columns = sql.SQL(", ").join(map(_name, copy.columns))
        reading = sql.SQL("COPY {} ({}) TO STDOUT (FORMAT binary)").format(_name(table), columns)
        writing = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(ARRIVING, columns)
        with there.cursor().copy(reading) as rows, here.cursor().copy(writing) as arriving:
            for chunk in rows:
                arriving.write(chunk)
        yield copy


def _name(name: str) -> sql.Identifier:
    return sql.Identifier(name)
