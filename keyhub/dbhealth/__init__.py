"""What in the live database is not as the code says: checks that apps register, run read-only, and their findings."""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

STATEMENT_TIMEOUT_MS = 10_000


class Severity(enum.StrEnum):
    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One difference: the object it is about, what is wrong with it, and the command or SQL that mends it."""

    id: str
    severity: Severity
    object: str
    problem: str
    mend: str


Check = Callable[[BaseDatabaseWrapper], Iterable[Finding]]
_checks: list[Check] = []


def register(check: Check) -> Check:
    """Add a check to every run of dbhealth. An app calls it from its AppConfig.ready()."""
    if check not in _checks:
        _checks.append(check)
    return check


def run(database: str) -> list[Finding]:
    """Run all checks on a database, named by its alias; return the findings, worst first.

    The checks see one snapshot, in a read-only transaction with a statement_timeout.
    Raises django.db.utils.DatabaseError where the database cannot be asked.
    """
    connection = connections[database]
    with transaction.atomic(using=database):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
        findings = [finding for check in _checks for finding in check(connection)]
    order = list(Severity)
    return sorted(findings, key=lambda finding: (order.index(finding.severity), finding.id, finding.object))
