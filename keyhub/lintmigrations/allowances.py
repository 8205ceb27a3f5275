"""What a migration asks to be let through, beside what it is about:

    -- lintmigrations: keyhub.M006 because operators has a dozen rows

It covers one rule on the next line that is no comment, and says why. One that covers nothing is a finding itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keyhub.lintmigrations.findings import Finding, Place

ALLOWANCE_ID = "keyhub.M035"
_COMMENT = re.compile(r"\s*(?:--|#)")
_ALLOWANCE = re.compile(r"\s*(?:--|#)\s*lintmigrations:\s*(?P<id>\S+)(?:\s+because\s+(?P<reason>\S.*))?")


@dataclass(frozen=True)
class Allowance:
    id: str
    reason: str
    place: Place
    covers: Place


def read_allowances(text: str, path: Path) -> list[Allowance]:
    lines = text.splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        match = _ALLOWANCE.fullmatch(line.rstrip())
        if match:
            after = (
                at for at, other in enumerate(lines[number:], number + 1) if other.strip() and not _COMMENT.match(other)
            )
            covers = Place(path, next(after, number))
            found.append(Allowance(match["id"], match["reason"] or "", Place(path, number), covers))
    return found


def apply(
    asked: list[tuple[str, Allowance]], findings: list[Finding], known_ids: set[str], judge_squawk: bool
) -> Iterator[Finding]:
    """Yield the findings that nothing covers, and those about allowances; each comes with its migration's name."""
    covered = {(allowance.id, allowance.covers) for _, allowance in asked if allowance.reason}
    yield from (finding for finding in findings if (finding.id, finding.place) not in covered)
    told = {(finding.id, finding.place) for finding in findings}
    for migration, allowance in asked:
        is_squawks = allowance.id.startswith("squawk.")
        if not allowance.reason:
            problem, mend = "without a reason", f"Write: lintmigrations: {allowance.id} because …"
        elif not is_squawks and allowance.id not in known_ids:
            problem, mend = "which is no rule", "See docs/operations/lintmigrations.md for the rules."
        elif (allowance.id, allowance.covers) not in told and (judge_squawk or not is_squawks):
            problem, mend = f"but line {allowance.covers.line} does not break it", "Take the comment out."
        else:
            continue
        yield Finding(ALLOWANCE_ID, migration, allowance.place, f"{migration} allows {allowance.id}, {problem}.", mend)
