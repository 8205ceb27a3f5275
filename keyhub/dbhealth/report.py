"""A report as text for people and in the forms that machines read."""

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Callable
from xml.etree import ElementTree

from django.core.management.color import Style

from keyhub.dbhealth.findings import Report, Severity

INDENT = "    "
GITHUB_COMMANDS = {Severity.CRITICAL: "error", Severity.WARNING: "warning", Severity.NOTICE: "notice"}


def text(report: Report, style: Style) -> str:
    """Worst first, one line each, the mend below, a summary at the end."""
    styles = {Severity.CRITICAL: style.ERROR, Severity.WARNING: style.WARNING, Severity.NOTICE: style.NOTICE}
    lines = [f"{report.database}: {note}" for note in report.notes]
    for finding in report.findings:
        severity = styles[finding.severity](finding.severity.upper())
        lines.append(f"{severity} {finding.id} {finding.object}: {finding.problem}")
        lines += [INDENT + line for line in finding.mend.splitlines()]
    for skipped in report.skipped:
        lines.append(f"{style.WARNING('skipped')} {skipped.id} {skipped.object}: {skipped.reason}")
        lines.append(INDENT + skipped.mend)
    for allowed in report.allowed:
        lines.append(
            f"allowed until {allowed.expires} {allowed.finding.id} {allowed.finding.object}: "
            f"{allowed.finding.problem} ({allowed.reason})"
        )
    summary_style = style.ERROR if report.fails(Severity.WARNING) else style.SUCCESS
    lines.append(summary_style(f"{report.database}: {_summary(report)}"))
    return "\n".join(lines)


def _summary(report: Report) -> str:
    counts = Counter(finding.severity for finding in report.findings)
    parts = [] if report.fails(Severity.WARNING) else ["healthy"]
    parts += [f"{counts[severity]} {severity}" for severity in Severity if counts[severity]]
    parts += [f"{len(report.skipped)} skipped"] if report.skipped else []
    parts += [f"{len(report.allowed)} allowed"] if report.allowed else []
    return ", ".join(parts)


def as_json(report: Report, ids: list[str]) -> str:
    counts = Counter(finding.severity for finding in report.findings)
    document = {
        "database": report.database,
        "healthy": not report.fails(Severity.WARNING),
        "summary": {str(severity): counts[severity] for severity in Severity}
        | {"skipped": len(report.skipped), "allowed": len(report.allowed)},
        "notes": report.notes,
        "findings": [dataclasses.asdict(finding) for finding in report.findings],
        "skipped": [dataclasses.asdict(skipped) for skipped in report.skipped],
        "allowed": [dataclasses.asdict(allowed) for allowed in report.allowed],
    }
    return json.dumps(document, ensure_ascii=False)


def junit(report: Report, ids: list[str]) -> str:
    """One test case for each finding, and one for each check that found nothing."""
    suite = ElementTree.Element("testsuite", name=f"dbhealth {report.database}")

    def case(id: str, name: str) -> ElementTree.Element:  # noqa: A002 as in Finding
        return ElementTree.SubElement(suite, "testcase", classname=id, name=name)

    for finding in report.findings:
        tag = "failure" if finding.severity is not Severity.NOTICE else "system-out"
        element = ElementTree.SubElement(case(finding.id, finding.object), tag)
        if tag == "failure":
            element.attrib |= {"type": finding.severity, "message": finding.problem}
        element.text = finding.mend
    for skipped in report.skipped:
        ElementTree.SubElement(case(skipped.id, skipped.object), "skipped", message=skipped.reason).text = skipped.mend
    for allowed in report.allowed:
        message = f"allowed until {allowed.expires}: {allowed.reason}"
        ElementTree.SubElement(case(allowed.finding.id, allowed.finding.object), "skipped", message=message)
    told = {item.attrib["classname"] for item in suite}
    for id in ids:  # noqa: A001 as in Finding
        if id not in told:
            case(id, "ok")
    failures = sum(finding.severity is not Severity.NOTICE for finding in report.findings)
    suite.attrib |= {
        "tests": str(len(suite)),
        "failures": str(failures),
        "skipped": str(len(report.skipped) + len(report.allowed)),
    }
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def github(report: Report, ids: list[str]) -> str:
    """Workflow commands: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands."""
    lines = []
    for finding in report.findings:
        title = _github_property(f"{finding.id} {finding.object}")
        message = _github_data(f"{finding.problem}\n{finding.mend}")
        lines.append(f"::{GITHUB_COMMANDS[finding.severity]} title={title}::{message}")
    for skipped in report.skipped:
        title = _github_property(f"{skipped.id} {skipped.object}")
        lines.append(f"::notice title={title}::{_github_data(f'skipped: {skipped.reason}{chr(10)}{skipped.mend}')}")
    return "\n".join([*lines, f"{report.database}: {_summary(report)}"])


def _github_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _github_property(text: str) -> str:
    return _github_data(text).replace(":", "%3A").replace(",", "%2C")


def openmetrics(report: Report, ids: list[str]) -> str:
    """The text format of https://prometheus.io/docs/specs/om/open_metrics_spec/, for a textfile collector."""
    counts = Counter(finding.severity for finding in report.findings)
    database = _label(report.database)
    lines = [
        "# TYPE keyhub_dbhealth_findings gauge",
        "# HELP keyhub_dbhealth_findings What in the database is not as the code says, by severity.",
        *(
            f'keyhub_dbhealth_findings{{database="{database}",severity="{severity}"}} {counts[severity]}'
            for severity in Severity
        ),
        "# TYPE keyhub_dbhealth_finding gauge",
        "# HELP keyhub_dbhealth_finding One finding.",
        *(
            f'keyhub_dbhealth_finding{{database="{database}",id="{id}",object="{_label(object)}",'
            f'severity="{severity}"}} {count}'
            for (id, object, severity), count in Counter(  # noqa: A001 as in Finding
                (finding.id, finding.object, finding.severity) for finding in report.findings
            ).items()
        ),
        "# TYPE keyhub_dbhealth_skipped gauge",
        "# HELP keyhub_dbhealth_skipped Checks that could not look.",
        f'keyhub_dbhealth_skipped{{database="{database}"}} {len(report.skipped)}',
        "# TYPE keyhub_dbhealth_allowed gauge",
        "# HELP keyhub_dbhealth_allowed Findings that the allow-list lets pass.",
        f'keyhub_dbhealth_allowed{{database="{database}"}} {len(report.allowed)}',
        "# TYPE keyhub_dbhealth_checked_timestamp_seconds gauge",
        "# HELP keyhub_dbhealth_checked_timestamp_seconds When this was checked.",
        f'keyhub_dbhealth_checked_timestamp_seconds{{database="{database}"}} {time.time():.0f}',
        "# EOF",
    ]
    return "\n".join(lines)


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


FORMATS: dict[str, Callable[[Report, list[str]], str]] = {
    "json": as_json,
    "junit": junit,
    "github": github,
    "openmetrics": openmetrics,
}
