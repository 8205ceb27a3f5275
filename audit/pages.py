"""Reading the log newest first, page by page, in a time that depends on neither its size nor the page's depth.

A page begins where the last one ended (keyset pagination, no OFFSET), and looks through growing spans of time, so that
the planner opens the partitions of a span and not those of all years.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.db import models
from django.db.models import Q

if TYPE_CHECKING:
    from audit.models import AuditLog

LONGEST_PAGE_ROWS = 1_000
# Then whatever is older: four queries at most, and one for who has rows of the last weeks.
SPANS_DAYS = (31, 124, 496)
FIRST_MOMENT = datetime.min.replace(tzinfo=UTC)
LAST_MOMENT = datetime.max.replace(tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class CursorError(ValueError):
    """A cursor is none of ours; the text is one sentence."""

    def __init__(self):
        super().__init__("The cursor of the page is malformed. Take `next` of the page before, or begin without one.")


@dataclass(frozen=True)
class Page:
    """Rows, newest first, and the cursor of the page behind them; None where there is none."""

    rows: list[AuditLog]
    next: str | None


@dataclass(frozen=True)
class Position:
    """Where a page begins: behind this row."""

    created_at: datetime
    id: uuid.UUID

    @classmethod
    def of(cls, cursor: str) -> Position:
        """Raises CursorError."""
        try:
            raw = base64.urlsafe_b64decode(cursor)
            created_at = EPOCH + int.from_bytes(raw[:8], signed=True) * MICROSECOND
            return cls(created_at, uuid.UUID(bytes=raw[8:]))
        except (binascii.Error, ValueError, TypeError, OverflowError) as error:
            raise CursorError from error

    @property
    def cursor(self) -> str:
        microseconds = (self.created_at - EPOCH) // MICROSECOND
        return base64.urlsafe_b64encode(microseconds.to_bytes(8, signed=True) + self.id.bytes).decode()

    def behind(self) -> Q:
        return Q(created_at__lte=self.created_at) & (
            Q(created_at__lt=self.created_at) | Q(created_at=self.created_at, id__lt=self.id)
        )


class PagedQuerySet(models.QuerySet):
    def page(self, after: str | None = None, *, rows: int = 50) -> Page:
        """One page of these events: `AuditLog.objects.filter(tenant_id=…).page()`, then `.page(after=page.next)`.

        The filter should name the organization, the tenant, the user, the action or the resource, by one of the
        indexes, or nothing. Raises CursorError, and ValueError for fewer rows than 1 or more than LONGEST_PAGE_ROWS.
        """
        if not 1 <= rows <= LONGEST_PAGE_ROWS:
            raise ValueError(f"A page has 1 to {LONGEST_PAGE_ROWS} rows, not {rows}.")
        position = Position.of(after) if after else None
        newest_first = self.order_by("-created_at", "-id")
        found: list[AuditLog] = []
        for span in _spans(position):
            found += newest_first.filter(span)[: rows + 1 - len(found)]
            if len(found) > rows:
                last = found[rows - 1]
                return Page(found[:rows], Position(last.created_at, last.pk).cursor)
        return Page(found, None)

    async def apage(self, after: str | None = None, *, rows: int = 50) -> Page:
        return await sync_to_async(self.page)(after, rows=rows)


def _spans(position: Position | None) -> Iterator[Q]:
    """The spans of time to look through, one after the other, until a page is full."""
    # A row at infinity has no place among the others; dbhealth tells of it (audit.H004).
    inside = Q(created_at__lte=LAST_MOMENT) if position is None else position.behind()
    # By whatever clock: it decides where a span ends, not which rows are found.
    begins = datetime.now(UTC) if position is None else position.created_at
    for days in SPANS_DAYS:
        try:
            begins -= timedelta(days=days)
        except OverflowError:  # before the first year
            break
        yield inside & Q(created_at__gte=begins)
        inside = Q(created_at__lt=begins)
    yield inside & Q(created_at__gte=FIRST_MOMENT)
