"""Making the monthly partitions of audit_logs ahead of time, and emptying the DEFAULT one into them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from audit import default_partition
from audit.months import (
    MONTHS_AHEAD,
    Month,
    PartitionError,
    existing_partitions,
    months_in_default,
    wanted_months,
)
from audit.partition_tables import CHANGE_TRIGGER, column_names, create_month, is_append_only
from audit.short_locks import keep_vacuums_out, only_run, until_locks_are_got

Progress = Callable[[str, int], None]


@dataclass
class Result:
    """What a run has done: partitions made, and rows moved out of the DEFAULT partition, by month."""

    made: list[Month] = field(default_factory=list)
    moved: dict[Month, int] = field(default_factory=dict)
    months_ahead_to: Month | None = None


def make_months(database: str, ahead: int = MONTHS_AHEAD, advance: Progress = lambda what, rows: None) -> Result:
    """Make the current month, those `ahead` of it, and the months of all rows in DEFAULT, which are moved there.

    Each month is one transaction: it takes SHARE UPDATE EXCLUSIVE on audit_logs, which lets readers and writers go on,
    and ACCESS EXCLUSIVE on the DEFAULT partition, which is as a rule empty. Where it is not, default_partition.py
    empties it first; `advance` is told of the rows. A second run waits for the first.
    Raises PartitionError; months made until then stay.
    """
    connection = connections[database]
    _refuse_without_table(connection)
    result = Result()
    with only_run(connection):
        wanted = wanted_months(connection, ahead)
        result.months_ahead_to = wanted[-1]
        while default_partition.is_to_be_emptied(connection):
            moved = default_partition.move_some(connection, advance)
            result.made += moved
            result.moved |= moved
        for month in sorted({*wanted, *months_in_default(connection)} - existing_partitions(connection).keys()):
            rows = until_locks_are_got(
                partial(_make_month, connection, month),
                f"the partition {month.partition} could not be made",
                "other sessions hold locks on audit_logs",
            )
            result.made.append(month)
            if rows:
                result.moved[month] = rows
    return result


def plan(database: str, ahead: int = MONTHS_AHEAD) -> Result:
    """What make_months() would do now, with the number of rows; nothing is locked or changed."""
    connection = connections[database]
    _refuse_without_table(connection)
    wanted = wanted_months(connection, ahead)
    in_default = months_in_default(connection)
    return Result(
        made=sorted({*wanted, *in_default} - existing_partitions(connection).keys()),
        moved={month: default_partition.rows_of(connection, month) for month in in_default},
        months_ahead_to=wanted[-1],
    )


def _refuse_without_table(connection: BaseDatabaseWrapper) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('audit_logs') IS NULL")
        if cursor.fetchone()[0]:
            raise PartitionError("the table audit_logs does not exist yet. Run manage.py migrate first.")


def _make_month(connection: BaseDatabaseWrapper, month: Month) -> int:
    """Make the partition and return how many rows were moved into it: few, or default_partition.py had moved them."""
    table = month.partition
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        keep_vacuums_out(cursor, "audit_logs", "audit_logs_default")
        append_only = is_append_only(cursor)
        create_month(cursor, month, append_only)
        columns = ", ".join(column_names(cursor))
        # The lock that ATTACH takes, so that nobody waits for it a second time.
        cursor.execute("LOCK TABLE audit_logs_default IN ACCESS EXCLUSIVE MODE")
        # Only the owner can: moved rows are deleted here and inserted there, in one statement.
        if append_only:
            cursor.execute(f"ALTER TABLE audit_logs_default DISABLE TRIGGER {CHANGE_TRIGGER}")
        cursor.execute(
            f"WITH moved AS (DELETE FROM audit_logs_default WHERE {month.condition} RETURNING {columns}) "  # noqa: S608
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM moved"
        )
        moved = cursor.rowcount
        if append_only:
            cursor.execute(f"ALTER TABLE audit_logs_default ENABLE TRIGGER {CHANGE_TRIGGER}")
        cursor.execute(f"ALTER TABLE audit_logs ATTACH PARTITION {table} {month.bounds}")
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_bounds")
    return moved
