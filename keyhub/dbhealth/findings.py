"""What a check yields: findings, and what it could not look at."""

import enum
from dataclasses import dataclass, field


class Severity(enum.StrEnum):
    """Critical: wrong or soon to fail. Warning: to be mended in time. Notice: worth knowing; it never fails a run."""

    CRITICAL = "critical"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True)
class Finding:
    """One difference: the object it is about, what is wrong with it, and the command or SQL that mends it.

    `expected` and `found` are the two sides of it, where there are two.
    """

    id: str
    severity: Severity
    object: str
    problem: str
    mend: str
    expected: str | None = None
    found: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A check that could not look at an object: why, and what lets it look, such as the missing GRANT."""

    id: str
    object: str
    reason: str
    mend: str


@dataclass(frozen=True)
class Allowed:
    """A finding that the allow-list lets pass."""

    finding: Finding
    reason: str
    expires: str


@dataclass
class Report:
    """One run. `notes` are about the run itself, such as what drift was measured against."""

    database: str
    findings: list[Finding] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    allowed: list[Allowed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fails(self, fail_on: Severity) -> bool:
        """Whether there is a finding at that severity or above it."""
        order = list(Severity)
        return any(order.index(finding.severity) <= order.index(fail_on) for finding in self.findings)
