"""Retiring months that are older than they must be kept: sealed, archived, detached, and dropped after a while.

    sealed      seals.py
    archived    archives.py; recorded in audit_archives once the archive was read back and is what was sealed
    detached    out of audit_logs, in a table of its own: a last chance, for the days of grace
    dropped     when the archive was read once more

A month stays in audit_logs until its archive is proved. Each step is a transaction, and what a step before has done is
read from the database: killed anywhere, the next run goes on.

A DEFAULT partition forbids DETACH … CONCURRENTLY, so that it takes ACCESS EXCLUSIVE on audit_logs for milliseconds:
https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-DETACH-PARTITION
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from urllib.parse import quote

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from audit import archives, seals
from audit.models import AuditArchive, AuditSeal
from audit.months import Month, existing_partitions, wanted_months
from audit.partition_tables import CHANGE_TRIGGER, DEFAULT_PARTITION, horizon_trigger
from audit.seals import Progress
from audit.short_locks import LOCK_TIMEOUT_MS, keep_vacuums_out, only_run, until_locks_are_got
from keyhub.store import Store

GRACE_DAYS = 7


@dataclass(frozen=True)
class Step:
    """What was done with a month, or would be; `detail` says how, for people."""

    month: str
    done: str
    detail: str = ""


def due_months(database: str, retention_months: int) -> dict[Month, str]:
    """The partitions of months older than the current one and `retention_months` before it; oldest first."""
    connection = connections[database]
    oldest_kept = wanted_months(connection, 0)[0].plus(-retention_months)
    partitions = existing_partitions(connection)
    return {month: partitions[month] for month in sorted(partitions) if month < oldest_kept}


def plan(database: str, retention_months: int, grace: timedelta) -> Iterator[Step]:
    """What retire() would do now."""
    sealed = {str(seal) for seal in AuditSeal.objects.using(database).all()}
    archived = {str(archive) for archive in AuditArchive.objects.using(database).all()}
    for month in due_months(database, retention_months):
        if str(month) not in sealed:
            yield Step(str(month), "sealed")
        if str(month) not in archived:
            yield Step(str(month), "archived")
        yield Step(str(month), "detached")
    now = _now(connections[database])
    for archive in _detached(database):
        ends = archive.detached_at + grace
        yield Step(str(archive), "dropped", "" if ends <= now else f"from {ends:%Y-%m-%d} on")


def retire(
    database: str, store: Store, retention_months: int, grace: timedelta, advance: Progress = lambda month, rows: None
) -> Iterator[Step]:
    """Retire the months that are due; yield each step when it is done. `advance` is told the rows that were read.

    Raises PartitionError, ArchiveError, StoreError; what was done until then stays.
    """
    connection = connections[database]
    # No name is erased meanwhile, and no month moved.
    with only_run(connection), only_run(connection, seals.LOCK_NAME):
        for month, partition in due_months(database, retention_months).items():
            for seal in seals.seal_months(database, advance, only=month):
                yield Step(str(month), "sealed", _count(seal.rows))
            seal = AuditSeal.objects.using(database).get(month=month.first_day)
            archive = AuditArchive.objects.using(database).filter(month=seal.month).first()
            if archive is None:
                archive = archives.write(connection, partition, seal, store, _folder(connection, month), advance)
                archives.prove(store, archive, seal, advance)
                archive.save(using=database, force_insert=True)
                yield Step(str(month), "archived", f"{_count(seal.rows)}, {archive.rows_bytes} bytes, read back")
            until_locks_are_got(
                partial(_detach, connection, month, partition),
                f"{partition} could not be detached",
                "other sessions hold locks on audit_logs",
            )
            yield Step(str(month), "detached", f"into {month.retired_table}, for {grace.days} days")
        for archive in _detached(database):
            if archive.detached_at + grace <= _now(connection):
                archives.prove(store, archive, AuditSeal.objects.using(database).get(month=archive.month), advance)
                table = Month.of(archive.month).retired_table
                until_locks_are_got(
                    partial(_drop, connection, archive, table),
                    f"{table} could not be dropped",
                    "other sessions read it",
                )
                yield Step(str(archive), "dropped")


def _detached(database: str) -> list[AuditArchive]:
    """Those that can be dropped at some time: one that was attached again is detached again first."""
    attached = existing_partitions(connections[database])
    archived = AuditArchive.objects.using(database).filter(detached_at__isnull=False, dropped_at__isnull=True)
    return [archive for archive in archived.order_by("month") if Month.of(archive.month) not in attached]


def _detach(connection: BaseDatabaseWrapper, month: Month, partition: str) -> None:
    """Take a month out of audit_logs: in one message, so that others wait for the server alone."""
    names = {
        "partition": sql.Identifier(partition),
        "retired": sql.Identifier(month.retired_table),
        "default": sql.Identifier(DEFAULT_PARTITION),
        "change": sql.Identifier(CHANGE_TRIGGER),
        "month": sql.Literal(month.first_day),
        "horizon_trigger": sql.SQL(horizon_trigger(_newest_detached(connection, month))),
    }
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        keep_vacuums_out(cursor, connection.ops.quote_name(partition), DEFAULT_PARTITION)
        cursor.execute(
            sql.SQL(
                """
                LOCK TABLE ONLY audit_logs IN ACCESS EXCLUSIVE MODE;
                LOCK TABLE ONLY {partition}, ONLY {default} IN ACCESS EXCLUSIVE MODE NOWAIT;
                ALTER TABLE audit_logs DETACH PARTITION {partition};
                ALTER TABLE {partition} RENAME TO {retired};
                CREATE TRIGGER {change} BEFORE UPDATE OR DELETE ON {retired}
                    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
                {horizon_trigger};
                UPDATE audit_archives SET detached_at = statement_timestamp() WHERE month = {month};
                """
            ).format(**names)
        )


def _newest_detached(connection: BaseDatabaseWrapper, month: Month) -> Month:
    detached = AuditArchive.objects.using(connection.alias).filter(detached_at__isnull=False)
    return max([month, *(Month.of(archive.month) for archive in detached)])


def _drop(connection: BaseDatabaseWrapper, archive: AuditArchive, table: str) -> None:
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table)))
        cursor.execute("UPDATE audit_archives SET dropped_at = statement_timestamp() WHERE month = %s", [archive.month])


def _folder(connection: BaseDatabaseWrapper, month: Month) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), system_identifier FROM pg_control_system()")
        database, system_identifier = cursor.fetchone()
    return f"{quote(database, safe='')}/{system_identifier}/audit_logs/{month}"


def _now(connection: BaseDatabaseWrapper) -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        return cursor.fetchone()[0]


def _count(rows: int) -> str:
    return f"{rows} row{'s' * (rows != 1)}"
