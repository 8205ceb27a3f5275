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
from django.db import DatabaseError
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
    """What one run of dbhealth has found, and when."""

    report: dbhealth.Report
    at: datetime


def health(request: HttpRequest) -> HttpResponse:
    """A part of the start page, which asks for it by itself: a slow store of backups holds nothing else up."""
    try:
        look = _look(again=request.method == "POST")
    except DatabaseError as error:
        problem = _("The database could not be looked at: %(why)s") % {"why": " ".join(str(error).split())}
        return render(request, "keyhub/health.html", {"problem": problem})
    findings = look.report.findings
    worst = findings[0].severity if findings else "healthy"
    rows = [
        [each.id, SEVERITIES[each.severity], each.object, in_english(each.problem), in_english(each.mend)]
        for each in findings
    ]
    shown = {
        "state": worst,
        "summary": _summary(findings),
        "age": timesince(look.at) if timezone.now() - look.at > timedelta(minutes=1) else _("less than a minute"),
        "notes": [in_english(_sentence(note)) for note in look.report.notes] + _missing(),
        "table": Table([_("Check"), _("Severity"), _("Object"), _("Problem"), _("Mend")], rows),
    }
    return render(request, "keyhub/health.html", shown)


def _look(again: bool) -> Look:
    """The last look at the database, or a new one where that is too old. Of many who ask one looks."""
    asked_at = timezone.now()
    look = cache.get("start_page:health")
    if look is None or again:
        with _looking:
            look = cache.get("start_page:health")
            if look is None or (again and look.at < asked_at):
                look = Look(dbhealth.run("default"), timezone.now())
                cache.set("start_page:health", look, HEALTH_KEPT_SECONDS)
    return look


def in_english(text: str) -> str:
    """What a command says, which speaks English alone; told to those who read it aloud."""
    return format_html('<span lang="en">{}</span>', text)


def _missing() -> list[str]:
    return [] if settings.BACKUP_URL else [_("Backups are not looked for, because BACKUP_URL is not set.")]


def _summary(findings: list[dbhealth.Finding]) -> str:
    if not findings:
        return _("Healthy.")
    return ngettext("%(number)d finding.", "%(number)d findings.", len(findings)) % {"number": len(findings)}


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}."
