"""A report as text for people, and reports in the forms that machines read: a document, or a line, for all of them."""

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
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
        lines += [INDENT + line for line in skipped.mend.splitlines()]
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


def as_json(reports: list[Report], ids: list[str]) -> str:
    """A document on a line of its own for each database."""
    return "\n".join(map(_json, reports))


def _json(report: Report) -> str:
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


def junit(reports: list[Report], ids: list[str]) -> str:
    """One test case for each finding, and one for each check that found nothing; a suite for each database."""
    suites = [_suite(report, ids) for report in reports]
    root = suites[0]
    if len(suites) > 1:
        root = ElementTree.Element("testsuites", name="dbhealth")
        root.extend(suites)
        root.attrib |= {
            name: str(sum(int(suite.attrib[name]) for suite in suites)) for name in ("tests", "failures", "skipped")
        }
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def _suite(report: Report, ids: list[str]) -> ElementTree.Element:
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
    return suite


def github(reports: list[Report], ids: list[str]) -> str:
    """Workflow commands: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands."""
    return "\n".join(map(_github, reports))


def _github(report: Report) -> str:
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


def openmetrics(reports: list[Report], ids: list[str]) -> str:
    """The text format of https://prometheus.io/docs/specs/om/open_metrics_spec/, for a textfile collector."""
    lines = []
    for (name, help_text), samples in METRICS.items():
        lines += [f"# TYPE {name} gauge", f"# HELP {name} {help_text}"]
        for report in reports:
            for labels, value in samples(report):
                words = {"database": report.database, **labels}
                text = ",".join(f'{label}="{_label(word)}"' for label, word in words.items())
                lines.append(f"{name}{{{text}}} {value}")
    return "\n".join([*lines, "# EOF"])


Samples = Iterator[tuple[dict[str, str], int]]


def _findings(report: Report) -> Samples:
    counts = Counter(finding.severity for finding in report.findings)
    yield from (({"severity": severity}, counts[severity]) for severity in Severity)


def _each_finding(report: Report) -> Samples:
    counts = Counter((finding.id, finding.object, finding.severity) for finding in report.findings)
    for (id, object, severity), count in counts.items():  # noqa: A001 as in Finding
        yield {"id": id, "object": object, "severity": severity}, count


def _skipped(report: Report) -> Samples:
    yield {}, len(report.skipped)


def _allowed(report: Report) -> Samples:
    yield {}, len(report.allowed)


def _now(report: Report) -> Samples:
    yield {}, round(time.time())


METRICS: dict[tuple[str, str], Callable[[Report], Samples]] = {
    ("keyhub_dbhealth_findings", "What in the database is not as the code says, by severity."): _findings,
    ("keyhub_dbhealth_finding", "One finding."): _each_finding,
    ("keyhub_dbhealth_skipped", "Checks that could not look."): _skipped,
    ("keyhub_dbhealth_allowed", "Findings that the allow-list lets pass."): _allowed,
    ("keyhub_dbhealth_checked_timestamp_seconds", "When this was checked."): _now,
}


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


FORMATS: dict[str, Callable[[list[Report], list[str]], str]] = {
    "json": as_json,
    "junit": junit,
    "github": github,
    "openmetrics": openmetrics,
}
