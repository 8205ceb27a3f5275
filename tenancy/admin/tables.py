"""What the tables of the pages here share."""

from datetime import datetime

from django.db import models
from django.utils.translation import gettext_lazy as _

MOST_ROWS_SHOWN = 50


def first_rows(queryset: models.QuerySet, most: int = MOST_ROWS_SHOWN) -> tuple[list, str]:
    """The rows of a queryset that a table shows, by one query, and what stands below it where there are more."""
    rows = list(queryset[: most + 1])
    return rows[:most], _("The first %(number)d are shown.") % {"number": most} if len(rows) > most else ""


def moment(time: datetime | None) -> str:
    return "–" if time is None else f"{time:%Y-%m-%d %H:%M}"
