"""The monthly partitions of audit_logs, by UTC: making them ahead of time, and emptying the DEFAULT one into them."""

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import TypeVar

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

T = TypeVar("T")

MONTHS_AHEAD = 3
LOCK_TIMEOUT_MS = 500
TRIES = 10
WAIT_FOR_OTHER_RUN_S = 600
LOCK_NAME = "keyhub.auditpartitions"
LOCK_NOT_AVAILABLE = "55P03"
DEFAULT_PARTITION = "audit_logs_default"
CHANGE_TRIGGER = "refuse_audit_logs_change"  # of rows; partitions get it from the parent
TRUNCATE_TRIGGER = "refuse_audit_logs_truncate"  # each partition needs its own
INSERT_TRIGGER = "refuse_audit_logs_insert"  # of sealed months
RETIRED = "_retired"  # what the table of a detached month ends with


class PartitionError(Exception):
    """A month cannot be made; the text is one sentence for people."""


class PartitionLockError(PartitionError):
    """A lock was not to be had in all tries; nothing has changed for that month."""


@dataclass(frozen=True, order=True)
class Month:
    """A calendar month of UTC."""

    year: int
    number: int

    @classmethod
    def of(cls, moment: datetime | date) -> "Month":
        return cls(moment.year, moment.month)

    @classmethod
    def of_bounds(cls, bounds: str) -> "Month | None":
        """The month whose bounds these are, as pg_get_expr() prints them in UTC; None where they are no month's."""
        start = re.match(r"FOR VALUES FROM \('(\d{4})-(\d\d)-01 ", bounds)
        month = cls(int(start[1]), int(start[2])) if start else None
        return month if month and month.bounds == bounds else None

    def plus(self, months: int) -> "Month":
        years, index = divmod(self.number - 1 + months, 12)
        return Month(self.year + years, index + 1)

    @property
    def first_day(self) -> date:
        return date(self.year, self.number, 1)

    @property
    def partition(self) -> str:
        return f"audit_logs_{self.year:04}_{self.number:02}"

    @property
    def retired_table(self) -> str:
        """What its partition is called when it was detached."""
        return f"{self.partition}{RETIRED}"

    @property
    def start(self) -> str:
        """Its first moment, as a literal that means the same in every session's time zone."""
        return f"{self.year:04}-{self.number:02}-01 00:00:00+00"

    @property
    def end(self) -> str:
        return self.plus(1).start

    @property
    def bounds(self) -> str:
        """The partition's bounds as pg_get_expr() prints them in UTC."""
        return f"FOR VALUES FROM ('{self.start}') TO ('{self.end}')"

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"


@dataclass
class Result:
    """What a run has done: partitions made, and rows moved out of the DEFAULT partition, by month."""

    made: list[Month] = field(default_factory=list)
    moved: dict[Month, int] = field(default_factory=dict)
    months_ahead_to: Month | None = None


def wanted_months(connection: BaseDatabaseWrapper, ahead: int = MONTHS_AHEAD) -> list[Month]:
    """The current month, by the server's clock, and the `ahead` months after it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp() AT TIME ZONE 'UTC'")
        this_month = Month.of(cursor.fetchone()[0])
    return [this_month.plus(months) for months in range(ahead + 1)]


def existing_partitions(connection: BaseDatabaseWrapper) -> dict[Month, str]:
    """The partitions that have the bounds of a month, whatever their names are."""
    with connection.cursor() as cursor:
        # Bounds are printed in the session's time zone, which Django sets to UTC.
        cursor.execute(
            "SELECT pg_get_expr(relpartbound, pg_class.oid), relname "
            "FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'audit_logs'::regclass"
        )
        months = {Month.of_bounds(bounds): name for bounds, name in cursor.fetchall()}
    months.pop(None, None)
    return months


def months_in_default(connection: BaseDatabaseWrapper) -> list[Month]:
    """The months of the rows in the DEFAULT partition. A row at infinity has none, and stays there."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT date_trunc('month', created_at AT TIME ZONE 'UTC') FROM audit_logs_default "
            "WHERE created_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-11-30 00:00:00+00' ORDER BY 1"
        )
        return [Month.of(moment) for (moment,) in cursor.fetchall()]


def make_months(database: str, ahead: int = MONTHS_AHEAD) -> Result:
    """Make the current month, those `ahead` of it, and the months of all rows in DEFAULT, which are moved there.

    Each month is one transaction: it takes SHARE UPDATE EXCLUSIVE on audit_logs, which lets readers and writers go on,
    and ACCESS EXCLUSIVE on the DEFAULT partition, which is as a rule empty. A second run waits for the first.
    Raises PartitionError; months made until then stay.
    """
    connection = connections[database]
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('audit_logs') IS NULL")
        if cursor.fetchone()[0]:
            raise PartitionError("the table audit_logs does not exist yet. Run manage.py migrate first.")
    result = Result()
    with only_run(connection):
        wanted = wanted_months(connection, ahead)
        result.months_ahead_to = wanted[-1]
        for month in sorted({*wanted, *months_in_default(connection)} - existing_partitions(connection).keys()):
            moved = until_locks_are_got(
                partial(_make_month, connection, month),
                f"the partition {month.partition} could not be made in {TRIES} tries, because other sessions hold "
                "locks on audit_logs",
            )
            result.made.append(month)
            if moved:
                result.moved[month] = moved
    return result


def horizon_trigger(month: Month) -> str:
    """The statement that lets no row of a month up to this one into DEFAULT: they find no other place any more."""
    return (
        f"CREATE OR REPLACE TRIGGER {INSERT_TRIGGER} BEFORE INSERT ON {DEFAULT_PARTITION} FOR EACH ROW "
        f"WHEN (NEW.created_at > '-infinity' AND NEW.created_at < '{month.end}') "
        "EXECUTE FUNCTION refuse_audit_insert()"
    )


def until_locks_are_got(step: Callable[[], T], gave_up: str) -> T:
    """Try a step, which sets its lock_timeout, TRIES times. Raises PartitionLockError: `gave_up`, and what to do."""
    for tries_left in reversed(range(TRIES)):
        try:
            return step()
        except DatabaseError as error:
            if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            if not tries_left:
                raise PartitionLockError(
                    f"{gave_up} ({str(error).strip()}). End the long transactions and run it again."
                ) from error
            time.sleep(random.uniform(0.1, 0.5))  # noqa: S311 jitter
    raise AssertionError("unreachable")


def _make_month(connection: BaseDatabaseWrapper, month: Month) -> int:
    """Make the partition and return how many rows were moved into it."""
    names = {
        "partition": sql.Identifier(month.partition),
        "bounds": sql.Identifier(f"{month.partition}_bounds"),
        "start": sql.Literal(month.start),
        "end": sql.Literal(month.end),
    }
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; SET LOCAL statement_timeout = 0")
        cursor.execute("SELECT to_regclass(%s)", [month.partition])
        if cursor.fetchone()[0] is not None:
            raise PartitionError(
                f"a table {month.partition} exists, but is no partition of audit_logs. "
                "Attach it, or rename it, and run this again."
            )
        cursor.execute(sql.SQL("CREATE TABLE {partition} (LIKE audit_logs INCLUDING ALL)").format(**names))
        append_only = _is_append_only(cursor)
        if append_only:
            cursor.execute(
                sql.SQL(
                    "CREATE TRIGGER {trigger} BEFORE TRUNCATE ON {partition} "
                    "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()"
                ).format(trigger=sql.Identifier(TRUNCATE_TRIGGER), **names)
            )
        # With this constraint ATTACH need not read the rows again.
        cursor.execute(
            sql.SQL(
                "ALTER TABLE {partition} ADD CONSTRAINT {bounds} CHECK (created_at >= {start} AND created_at < {end})"
            ).format(**names)
        )
        # ATTACH fails when a row of the month comes into DEFAULT meanwhile. Readers go on until ATTACH itself.
        cursor.execute("LOCK TABLE audit_logs_default IN SHARE ROW EXCLUSIVE MODE")
        # Only the owner can: moved rows are deleted here and inserted there, in one statement.
        if append_only:
            cursor.execute(f"ALTER TABLE audit_logs_default DISABLE TRIGGER {CHANGE_TRIGGER}")
        cursor.execute(
            sql.SQL(
                "WITH moved AS (DELETE FROM audit_logs_default WHERE created_at >= {start} AND created_at < {end} "
                "RETURNING *) INSERT INTO {partition} SELECT * FROM moved"
            ).format(**names)
        )
        moved = cursor.rowcount
        if append_only:
            cursor.execute(f"ALTER TABLE audit_logs_default ENABLE TRIGGER {CHANGE_TRIGGER}")
        cursor.execute(
            sql.SQL("ALTER TABLE audit_logs ATTACH PARTITION {partition} FOR VALUES FROM ({start}) TO ({end})").format(
                **names
            )
        )
        cursor.execute(sql.SQL("ALTER TABLE {partition} DROP CONSTRAINT {bounds}").format(**names))
    return moved


def _is_append_only(cursor) -> bool:
    """Whether the database is at the version that made the table append-only."""
    cursor.execute(
        "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'audit_logs'::regclass AND tgname = %s)",
        [TRUNCATE_TRIGGER],
    )
    return cursor.fetchone()[0]


@contextlib.contextmanager
def only_run(connection: BaseDatabaseWrapper) -> Iterator[None]:
    deadline = time.monotonic() + WAIT_FOR_OTHER_RUN_S
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [LOCK_NAME])
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
            cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [LOCK_NAME])
