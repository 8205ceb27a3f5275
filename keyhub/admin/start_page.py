"""The start page: numbers and charts that the apps register, each with the list that it counts, and dbhealth's word.

Numbers are kept for a minute and findings for five, in each process: a start page that many look at asks little.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.html import format_html
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from keyhub import dbhealth, replicas
from keyhub.admin.counts import Count
from keyhub.admin.sections import Table
from keyhub.dbhealth.databases import Unasked, run_everywhere

NUMBERS_KEPT_SECONDS = 60
HEALTH_KEPT_SECONDS = 300
CHART_DAYS = 14


@dataclass(frozen=True)
class Number:
    """How many rows a list has: for operators who may view it. `name` is unique."""

    name: str
    title: str
    permission: str
    count: Callable[[], Count]
    link: Callable[[], str]
    hint: str = ""


@dataclass(frozen=True)
class Chart:
    """How many rows of each day, and the address of the list of a day. `name` is unique."""

    name: str
    title: str
    permission: str
    days: Callable[[], Iterable[tuple[date, Count]]]
    link: Callable[[date], str]


@dataclass(frozen=True)
class Card:
    title: str
    value: Count
    link: str
    hint: str


@dataclass(frozen=True)
class Bar:
    day: date
    count: Count
    percent: int
    link: str


_numbers: dict[str, Number] = {}
_charts: dict[str, Chart] = {}


def register(*shown: Number | Chart) -> None:
    """Show numbers and charts on the start page, in the order of their registration."""
    for each in shown:
        (_charts if isinstance(each, Chart) else _numbers)[each.name] = each


def context(request: HttpRequest, context: dict) -> dict:
    """What the start page shows to an operator: UNFOLD's DASHBOARD_CALLBACK."""
    numbers = [each for each in _numbers.values() if request.user.has_perm(each.permission)]
    charts = [each for each in _charts.values() if request.user.has_perm(each.permission)]
    counted = [(each, *_kept(request, each.name, each.count)) for each in numbers]
    drawn = [(each, *_kept(request, each.name, lambda each=each: list(each.days()))) for each in charts]
    return context | {
        "cards": [Card(each.title, value, each.link(), each.hint) for each, value, _at in counted],
        "charts": [{"title": each.title, "bars": _bars(each, days)} for each, days, _at in drawn],
        "as_of": min((at for _each, _value, at in [*counted, *drawn]), default=None),
    }


def _kept(request: HttpRequest, name: str, count: Callable[[], object]) -> tuple[object, datetime]:
    """What was counted up to a minute ago, and when."""

    def counted() -> tuple[object, datetime]:
        return replicas.read_for(request, count), timezone.now()

    return cache.get_or_set(f"start_page:{name}", counted, NUMBERS_KEPT_SECONDS)


def _bars(chart: Chart, days: list[tuple[date, Count]]) -> list[Bar]:
    highest = max((count.rows for _day, count in days), default=0) or 1
    return [Bar(day, count, round(100 * count.rows / highest), chart.link(day)) for day, count in days]


# dbhealth

SEVERITIES = {
    dbhealth.Severity.CRITICAL: gettext_lazy("critical"),
    dbhealth.Severity.WARNING: gettext_lazy("warning"),
    dbhealth.Severity.NOTICE: gettext_lazy("notice"),
}
_looking = threading.Lock()


@dataclass(frozen=True)
class Look:
    """What one run of dbhealth has found in each database, and when."""

    results: list[dbhealth.Report | Unasked]
    at: datetime

    @property
    def reports(self) -> list[dbhealth.Report]:
        return [result for result in self.results if isinstance(result, dbhealth.Report)]

    @property
    def unasked(self) -> list[Unasked]:
        return [result for result in self.results if isinstance(result, Unasked)]

    def of(self, result: dbhealth.Report | Unasked, text: str) -> str:
        """A text about a database, which says about which where there are two."""
        return f"{result.database}: {text}" if len(self.results) > 1 else text


def health(request: HttpRequest) -> HttpResponse:
    """A part of the start page, which asks for it by itself: a slow store of backups holds nothing else up."""
    look = _look(again=request.method == "POST")
    problems = [
        _("The database could not be looked at: %(why)s") % {"why": look.of(each, each.reason)} for each in look.unasked
    ]
    if not look.reports:
        return render(request, "keyhub/health.html", {"problems": problems})
    found = [(report, finding) for report in look.reports for finding in report.findings]
    found.sort(key=lambda pair: list(dbhealth.Severity).index(pair[1].severity))
    notes = [look.of(report, note) for report in look.reports for note in report.notes]
    shown = {
        "problems": problems,
        "state": found[0][1].severity if found else "healthy",
        "summary": _summary(len(found)),
        "age": timesince(look.at) if timezone.now() - look.at > timedelta(minutes=1) else _("less than a minute"),
        "notes": [in_english(_sentence(note)) for note in notes] + _missing(),
        "table": _table(found, names_databases=len(look.results) > 1),
    }
    return render(request, "keyhub/health.html", shown)


def _table(found: list[tuple[dbhealth.Report, dbhealth.Finding]], names_databases: bool) -> Table:
    headers = [_("Check"), _("Severity"), _("Object"), _("Problem"), _("Mend")]
    rows = [
        [each.id, SEVERITIES[each.severity], each.object, in_english(each.problem), in_english(each.mend)]
        for _report, each in found
    ]
    if names_databases:
        headers.insert(0, _("Database"))
        rows = [[report.database, *row] for (report, _each), row in zip(found, rows, strict=True)]
    return Table(headers, rows)


def _look(again: bool) -> Look:
    """The last look at the databases, or a new one where that is too old. Of many who ask one looks."""
    asked_at = timezone.now()
    look = cache.get("start_page:health")
    if look is None or again:
        with _looking:
            look = cache.get("start_page:health")
            if look is None or (again and look.at < asked_at):
                look = Look(run_everywhere(), timezone.now())
                if look.reports:
                    kept_seconds = NUMBERS_KEPT_SECONDS if look.unasked else HEALTH_KEPT_SECONDS
                    cache.set("start_page:health", look, kept_seconds)
    return look


def in_english(text: str) -> str:
    """What a command says, which speaks English alone; told to those who read it aloud."""
    return format_html('<span lang="en">{}</span>', text)


def _missing() -> list[str]:
    return [] if settings.BACKUP_URL else [_("Backups are not looked for, because BACKUP_URL is not set.")]


def _summary(findings: int) -> str:
    if not findings:
        return _("Healthy.")
    return ngettext("%(number)d finding.", "%(number)d findings.", findings) % {"number": findings}


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}."
