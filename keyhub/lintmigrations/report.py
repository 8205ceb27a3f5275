"""What the linter found, as text and as JSON."""

import json
from dataclasses import dataclass

from keyhub.lintmigrations.findings import Finding


@dataclass(frozen=True)
class Report:
    steps: int
    findings: list[Finding]
    squawk_was_asked: bool

    def as_text(self) -> str:
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.place.path}:{finding.place.line}: {finding.id} {finding.problem}")
            lines += [f"    {line}" for line in finding.mend.splitlines()]
        lines.append(f"{_count(self.steps, 'migration')}: {_count(len(self.findings), 'finding')}")
        return "\n".join(lines)

    def as_json(self) -> str:
        findings = [
            {
                "id": finding.id,
                "migration": finding.migration,
                "path": str(finding.place.path),
                "line": finding.place.line,
                "problem": finding.problem,
                "mend": finding.mend,
            }
            for finding in self.findings
        ]
        report = {"migrations": self.steps, "squawk": self.squawk_was_asked, "findings": findings}
        return json.dumps(report, ensure_ascii=False)


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'s' * (number != 1)}"
