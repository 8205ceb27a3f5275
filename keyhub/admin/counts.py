"""How many rows there are, without counting a large table: exactly while they are few, else as the planner believes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db import models
from django.utils import timezone

from keyhub.admin.pages import TooSlowError, given_up_after

MOST_ROWS_COUNTED = 10_000
COUNT_TIMEOUT_MS = 300
MOST_ROWS_COUNTED_IN_A_LIST = 1_000


@dataclass(frozen=True)
class Count:
    rows: int
    is_estimate: bool = False
    is_at_least: bool = False

    def __str__(self) -> str:
        if self.is_at_least:
            return f"{intcomma(self.rows)}+"
        return f"≈ {intcomma(self.rows)}" if self.is_estimate else intcomma(self.rows)


def count_of(queryset: models.QuerySet) -> Count:
    """Exact up to MOST_ROWS_COUNTED rows and COUNT_TIMEOUT_MS milliseconds; beyond, what EXPLAIN says.

    Of rows that came after the last ANALYZE the planner may know nothing: then it is told how many there are at least.
    """
    try:
        with given_up_after(COUNT_TIMEOUT_MS, queryset.db):
            rows = queryset.order_by()[: MOST_ROWS_COUNTED + 1].count()
    except TooSlowError:
        rows = None
    if rows is not None and rows <= MOST_ROWS_COUNTED:
        return Count(rows)
    (plan,) = json.loads(queryset.order_by().explain(format="json"))
    believed = plan["Plan"]["Plan Rows"]
    if rows is not None and believed < rows:
        return Count(MOST_ROWS_COUNTED, is_at_least=True)
    return Count(int(float(f"{believed:.3g}")), is_estimate=True)


def counted_in_a_list(rows: models.QuerySet) -> models.Subquery:
    """How many of these rows each row of a list has, as a column of the list's one query: told()."""
    return models.Subquery(
        rows.order_by().values("pk")[: MOST_ROWS_COUNTED_IN_A_LIST + 1],
        template="(SELECT count(*) FROM (%(subquery)s) AS counted)",
        output_field=models.IntegerField(),
    )


def told(number: int) -> str:
    """A number of counted_in_a_list()."""
    return f"{intcomma(MOST_ROWS_COUNTED_IN_A_LIST)}+" if number > MOST_ROWS_COUNTED_IN_A_LIST else intcomma(number)


def count_by_day(queryset: models.QuerySet, column: str, days: int) -> Iterator[tuple[date, Count]]:
    """Of each of the last UTC days, today being the last."""
    today = timezone.now().astimezone(UTC).date()
    for day in (today - timedelta(days=ago) for ago in range(days - 1, -1, -1)):
        begins = datetime.combine(day, time(), UTC)
        yield day, count_of(queryset.filter(**{f"{column}__gte": begins, f"{column}__lt": begins + timedelta(days=1)}))
