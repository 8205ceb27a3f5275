"""The calendar of audit_logs: which months there are to be, by UTC, and which have their partition."""

import re
from dataclasses import dataclass
from datetime import date, datetime

from django.db.backends.base.base import BaseDatabaseWrapper

MONTHS_AHEAD = 3
RETIRED = "_retired"


class PartitionError(Exception):
    """A month cannot be made; the text is one sentence for people."""


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

    @property
    def condition(self) -> str:
        """What is true of its rows, as SQL that says the same as its bounds."""
        return f"created_at >= '{self.start}' AND created_at < '{self.end}'"

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"


def wanted_months(connection: BaseDatabaseWrapper, ahead: int = MONTHS_AHEAD) -> list[Month]:
    """The current month, by the server's clock, and the `ahead` months after it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp() AT TIME ZONE 'UTC'")
        this_month = Month.of(cursor.fetchone()[0])
    return [this_month.plus(months) for months in range(ahead + 1)]


def existing_partitions(connection: BaseDatabaseWrapper, table: str = "audit_logs") -> dict[Month, str]:
    """The partitions that have the bounds of a month, whatever their names are."""
    with connection.cursor() as cursor:
        # Bounds are printed in the session's time zone, which Django sets to UTC.
        cursor.execute(
            "SELECT pg_get_expr(relpartbound, pg_class.oid), relname "
            "FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = %s::regclass",
            [table],
        )
        months = {Month.of_bounds(bounds): name for bounds, name in cursor.fetchall()}
    months.pop(None, None)
    return months


def months_in_default(connection: BaseDatabaseWrapper) -> list[Month]:
    """The months of the rows in the DEFAULT partition, in order. A row at infinity has none, and stays there.

    From month to month by the index, since the rows may be millions.
    """
    first_row = (
        "SELECT date_trunc('month', min(created_at) AT TIME ZONE 'UTC') FROM audit_logs_default "
        "WHERE created_at >= {} AND created_at <= '9999-11-30 00:00:00+00'"
    )
    first_month = first_row.format("'0001-01-01 00:00:00+00'")
    next_month = first_row.format("(month + interval '1 month') AT TIME ZONE 'UTC'")
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE months (month) AS ("  # noqa: S608
            f"{first_month} UNION ALL SELECT ({next_month}) FROM months WHERE month IS NOT NULL"
            ") SELECT month FROM months WHERE month IS NOT NULL"
        )
        return [Month.of(moment) for (moment,) in cursor.fetchall()]
