"""What dbhealth checks of the calendar of audit_logs."""

from collections.abc import Iterator

from django.db.backends.base.base import BaseDatabaseWrapper

from audit import auditpartitions
from keyhub.dbhealth import Finding, Severity


def calendar(connection: BaseDatabaseWrapper) -> Iterator[Finding]:
    """Yield audit.H001 to H004: months without a partition, rows in DEFAULT, no DEFAULT, rows out of all time."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('audit_logs'), to_regclass('audit_logs_default')")
        table, default_partition = cursor.fetchone()
    if table is None:
        return
    wanted = auditpartitions.wanted_months(connection)
    for month in sorted(set(wanted) - auditpartitions.existing_months(connection)):
        soon = month in wanted[:2]
        yield Finding(
            "audit.H001",
            Severity.CRITICAL if soon else Severity.WARNING,
            month.partition,
            f"audit_logs has no partition for {month}",
            "manage.py auditpartitions",
        )
    if default_partition is None:
        yield Finding(
            "audit.H003",
            Severity.CRITICAL,
            auditpartitions.DEFAULT_PARTITION,
            "audit_logs has no DEFAULT partition: a row of a month without a partition is refused",
            "CREATE TABLE audit_logs_default PARTITION OF audit_logs DEFAULT;",
        )
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM audit_logs_default WHERE isfinite(created_at)), "
            "EXISTS (SELECT FROM audit_logs_default WHERE NOT isfinite(created_at))"
        )
        misplaced, timeless = cursor.fetchone()
    if misplaced:
        yield Finding(
            "audit.H002",
            Severity.WARNING,
            auditpartitions.DEFAULT_PARTITION,
            "rows have landed in the DEFAULT partition instead of their month's",
            "manage.py auditpartitions",
        )
    if timeless:
        yield Finding(
            "audit.H004",
            Severity.WARNING,
            auditpartitions.DEFAULT_PARTITION,
            "rows have an infinite created_at, which belongs to no month",
            "SELECT * FROM audit_logs_default WHERE NOT isfinite(created_at);",
        )
