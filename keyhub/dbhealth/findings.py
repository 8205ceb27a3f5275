"""What a check yields: findings, and what it could not look at."""

import enum
from dataclasses import dataclass, field

from keyhub.placement import State


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
    """A check that could not look: at what, why, and what lets it look, such as the missing GRANT."""

    id: str
    object: str
    reason: str
    mend: str


@dataclass(frozen=True)
class Unreadable:
    """A table, or a sequence, that the role may not read; a report has those of one check in one line."""

    id: str
    object: str
    is_sequence: bool = False


@dataclass(frozen=True)
class Allowed:
    """A finding that the allow-list lets pass."""

    finding: Finding
    reason: str
    expires: str


@dataclass
class Report:
    """One run. `notes` are about the run itself, such as what drift was measured against.

    `state` says where the rows of the Admin database are written, where there are two databases and that is known.
    """

    database: str
    findings: list[Finding] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    allowed: list[Allowed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    state: State | None = None

    def add_unreadable(self, unreadable: list[Unreadable], role: str) -> None:
        """Put what may not be read among the skipped checks, with the GRANT that each lacks."""
        of_check: dict[tuple[str, bool], dict[str, None]] = {}
        for item in unreadable:
            of_check.setdefault((item.id, item.is_sequence), {})[item.object] = None
        for (id, is_sequence), objects in of_check.items():  # noqa: A001 as in Finding
            names = ", ".join(objects)
            them = "it" if len(objects) == 1 else "them"
            grant = f"GRANT SELECT ON {'SEQUENCE ' if is_sequence else ''}{names} TO {role};"
            self.skipped.append(Skipped(id, names, f"the role {role} may not read {them}", grant))

    def fails(self, fail_on: Severity) -> bool:
        """Whether there is a finding at that severity or above it."""
        order = list(Severity)
        return any(order.index(finding.severity) <= order.index(fail_on) for finding in self.findings)
