"""What the tables of the pages here share."""

from collections.abc import Sequence
from datetime import datetime

from django.utils.translation import gettext_lazy as _

MOST_ROWS_SHOWN = 50


def note_of_more(rows: Sequence) -> str:
    return _("The first %(number)d are shown.") % {"number": MOST_ROWS_SHOWN} if len(rows) > MOST_ROWS_SHOWN else ""


def moment(time: datetime | None) -> str:
    return "–" if time is None else f"{time:%Y-%m-%d %H:%M}"
