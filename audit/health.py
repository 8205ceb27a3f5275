"""What dbhealth checks of the calendar of audit_logs."""

import re
from collections.abc import Iterator
from itertools import pairwise

from audit.default_partition import MIRROR, MOVING
from audit.months import RETIRED, Month, wanted_months
from audit.partition_tables import DEFAULT_PARTITION, INSERT_TRIGGER, TRUNCATE_TRIGGER, horizon_trigger
from keyhub.dbhealth import Examination, Finding, Phase, Severity, Unreadable, made_at_run_time, register

# One that is named after a month, and has other bounds, is told by keyhub.H013.
NAMED_AFTER_A_MONTH = r"audit_logs_\d{4}_\d\d"
LONGEST_LOST_MONTHS = 6  # who loses more in a row has noticed

PARTITIONS = """
    SELECT relname, pg_get_expr(relpartbound, 0),
        EXISTS (SELECT FROM pg_trigger WHERE tgrelid = inhrelid AND tgname = %(trigger)s AND tgenabled IN ('O', 'A')),
        (SELECT has_table_privilege(attrelid, 'SELECT') FROM pg_attribute
         WHERE attrelid = to_regclass('audit_seals') AND attname = 'month'),
        (SELECT has_table_privilege(attrelid, 'SELECT') FROM pg_attribute
         WHERE attrelid = to_regclass('audit_archives') AND attname IN ('month', 'detached_at')
         GROUP BY attrelid HAVING count(*) = 2)
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = to_regclass('audit_logs')
"""
SEALED = "SELECT month, {is_retired} FROM audit_seals ORDER BY month"
IS_RETIRED = (
    "EXISTS (SELECT FROM audit_archives WHERE audit_archives.month = audit_seals.month AND detached_at IS NOT NULL)"
)
DEFAULT = """
    SELECT relname, pg_relation_size(pg_class.oid) > 0, has_table_privilege(pg_class.oid, 'SELECT')
    FROM pg_partitioned_table JOIN pg_class ON pg_class.oid = partdefid WHERE partrelid = to_regclass('audit_logs')
"""
IN_DEFAULT = """
    SELECT EXISTS (SELECT FROM audit_logs_default WHERE isfinite(created_at)),
           EXISTS (SELECT FROM audit_logs_default WHERE NOT isfinite(created_at))
"""


def months(examination: Examination) -> Iterator[Finding | Unreadable]:
    """audit.H001 months ahead without a partition, audit.H003 gaps between months, audit.H005 bounds off the months,
    audit.H006 sealed months that let rows in.
    """
    rows = examination.rows(PARTITIONS, {"trigger": INSERT_TRIGGER})
    partitions = {name: bounds for name, bounds, *_ in rows}
    if not partitions:
        return
    ((*_, seals_are_readable, archives_are_readable), *_) = rows
    lets_rows_in = {name for name, _, is_closed, *_ in rows if not is_closed}
    for table, is_readable in (("audit_seals", seals_are_readable), ("audit_archives", archives_are_readable)):
        if is_readable is False:  # it is None where there is no such table yet, or a column of it is gone
            yield Unreadable("audit.H006", table)
    retired = []
    if seals_are_readable:
        statement = SEALED.format(is_retired=IS_RETIRED if archives_are_readable else "false")
        sealed = [(Month.of(month), is_retired) for month, is_retired in examination.rows(statement)]
        retired = [month for month, is_retired in sealed if is_retired]
        yield from _sealed_and_open([month for month, _ in sealed], lets_rows_in)
        yield from _retired_and_open(retired, lets_rows_in)
    existing, odd = set(), []
    for name, bounds in sorted(partitions.items()):
        month = Month.of_bounds(bounds)
        if month is not None:
            existing.add(month)
        elif bounds != "DEFAULT" and not re.fullmatch(NAMED_AFTER_A_MONTH, name):
            odd.append((name, bounds))
    wanted = wanted_months(examination.connection)
    for month in sorted(set(wanted) - existing):
        yield Finding(
            "audit.H001",
            Severity.CRITICAL if month in wanted[:2] else Severity.WARNING,
            month.partition,
            f"audit_logs has no partition for {month}",
            "manage.py auditpartitions",
        )
    # What was retired is missing only where something older is still there.
    retired = {month for month in retired if month > min(existing, default=month)}
    for gap in _gaps(existing.union(wanted, retired)):
        yield _gap(gap)
    for name, bounds in odd:
        yield Finding(
            "audit.H005", Severity.CRITICAL, name,
            f"the partition does not begin and end with a UTC month: {bounds.removeprefix('FOR VALUES ')}",
            f"-- Its rows go to the DEFAULT partition, and from there into their months.\n"
            f"ALTER TABLE audit_logs DETACH PARTITION {name};\n"
            f"INSERT INTO audit_logs SELECT * FROM {name};\nDROP TABLE {name};\nmanage.py auditpartitions",
        )  # fmt: skip


def _sealed_and_open(sealed: list[Month], lets_rows_in: set[str]) -> Iterator[Finding]:
    for partition in (month.partition for month in sealed if month.partition in lets_rows_in):
        yield Finding(
            "audit.H006", Severity.CRITICAL, partition, "the month is sealed, and lets rows in",
            f"CREATE OR REPLACE TRIGGER {INSERT_TRIGGER} BEFORE INSERT ON {partition} "
            f"FOR EACH ROW EXECUTE FUNCTION refuse_audit_insert();\n"
            f"ALTER TABLE {partition} ENABLE TRIGGER {INSERT_TRIGGER};",
        )  # fmt: skip


def _retired_and_open(retired: list[Month], lets_rows_in: set[str]) -> Iterator[Finding]:
    if retired and DEFAULT_PARTITION in lets_rows_in:
        yield Finding(
            "audit.H006", Severity.CRITICAL, DEFAULT_PARTITION,
            f"months up to {retired[-1]} are retired, and rows of them are let in",
            f"{horizon_trigger(retired[-1])};\n"
            f"ALTER TABLE {DEFAULT_PARTITION} ENABLE TRIGGER {INSERT_TRIGGER};",
        )  # fmt: skip


def _gaps(months: set[Month]) -> Iterator[list[Month]]:
    """The months that are missing between others, those in a row together."""
    for month, later in pairwise(sorted(months)):
        gap = []
        while (month := month.plus(1)) < later:
            gap.append(month)
        if gap:
            yield gap


def _gap(months: list[Month]) -> Finding:
    first, last = months[0], months[-1]
    if len(months) > LONGEST_LOST_MONTHS:
        return Finding(
            "audit.H003", Severity.NOTICE, f"{first.partition} to {last.partition}",
            f"audit_logs has no partition for the {len(months)} months from {first} to {last}, as where a few rows are "
            "much older than all others",
            "nothing, unless there were rows of these months",
        )  # fmt: skip
    names = ", ".join(str(month) for month in months)
    creates = "\n".join(
        f"CREATE TABLE {month.partition} PARTITION OF audit_logs {month.bounds};\n"
        f"CREATE TRIGGER {TRUNCATE_TRIGGER} BEFORE TRUNCATE ON {month.partition} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();"
        for month in months
    )
    return Finding(
        "audit.H003", Severity.WARNING, ", ".join(month.partition for month in months),
        f"audit_logs has months before and after {names}, and none between: a partition was detached or dropped",
        f"attach it again, or restore it from a backup; if it had no rows:\n{creates}",
    )  # fmt: skip


def rows_in_default(examination: Examination) -> Iterator[Finding | Unreadable]:
    """audit.H002 rows of a month, audit.H004 rows out of all time in the DEFAULT partition."""
    for name, has_pages, readable in examination.rows(DEFAULT):
        if not has_pages:
            continue
        if not readable:
            yield Unreadable("audit.H002", name)
            continue
        ((misplaced, timeless),) = examination.rows(IN_DEFAULT)
        if misplaced:
            yield Finding(
                "audit.H002", Severity.WARNING, name,
                "rows have landed in the DEFAULT partition instead of their month's", "manage.py auditpartitions",
            )  # fmt: skip
        if timeless:
            yield Finding(
                "audit.H004", Severity.WARNING, name, "rows have an infinite created_at, which belongs to no month",
                "SELECT * FROM audit_logs_default WHERE NOT isfinite(created_at);",
            )  # fmt: skip


def register_checks() -> None:
    made_at_run_time(rf"audit_logs_(\d{{4}}_\d\d|default)\.{INSERT_TRIGGER}")
    made_at_run_time(rf"audit_logs_\d{{4}}_\d\d{RETIRED}")
    # Of a run of auditpartitions that is at work, or was interrupted: audit.H002 tells of its rows.
    made_at_run_time(rf"{MOVING}.*|audit_logs_default\.{MIRROR}.*|{MIRROR}\(\)")
    register(months, ["audit.H001", "audit.H003", "audit.H005", "audit.H006"], phases=[Phase.POST_MIGRATE])
    register(rows_in_default, ["audit.H002", "audit.H004"], may_wait=True)
