"""Lists of any length, page by page: no COUNT, no OFFSET, and no query that lasts.

A page begins where the last one ended (keyset pagination), by the columns of the list's order, which are unique
together and not NULL, and all ascending or all descending, so that an index finds the place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from django.contrib.admin.options import IncorrectLookupParameters
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.paginator import EmptyPage, Page, Paginator
from django.db import OperationalError, connections, models, transaction
from django.db.models import F, Value
from django.db.models.lookups import GreaterThan, LessThan
from django.utils.functional import cached_property
from unfold.views import ChangeList

from keyhub import replicas
from keyhub.statements import RowValue

AFTER, BEFORE = "after", "before"
LIST_TIMEOUT_MS = 3_000
QUERY_CANCELED = "57014"


class TooSlowError(Exception):
    """A query was given up."""


@contextmanager
def given_up_after(milliseconds: int, using: str) -> Iterator[None]:
    """Queries inside take no longer than that together with the wait for it. Raises TooSlowError."""
    connection = connections[using]
    is_a_part = connection.in_atomic_block
    try:
        with transaction.atomic(using=using), connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('statement_timeout'), set_config('statement_timeout', %s, true)",
                [str(milliseconds)],
            )
            before, _ = cursor.fetchone()
            yield
            if is_a_part:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [before])
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != QUERY_CANCELED:
            raise
        raise TooSlowError from error


@dataclass(frozen=True)
class KeysetPage:
    """Rows in the order of the list, and the cursors of the pages around them."""

    rows: list[models.Model]
    previous: str | None
    next: str | None


class Order:
    """The columns by which a list is ordered."""

    def __init__(self, model: type[models.Model], ordering: tuple[str, ...]):
        self.names = [name.removeprefix("-") for name in ordering]
        self.descends = ordering[0].startswith("-")
        fields = [model._meta.get_field(name) for name in self.names]
        self.attributes = [field.attname for field in fields]
        self.columns = [field.target_field if field.is_relation else field for field in fields]

    def ordering(self, backwards: bool = False) -> list[str]:
        return [f"-{name}" if self.descends != backwards else name for name in self.names]

    def cursor_of(self, row: models.Model) -> str:
        values = [getattr(row, attribute) for attribute in self.attributes]
        texts = [value.isoformat() if hasattr(value, "isoformat") else str(value) for value in values]
        return signing.b64_encode(json.dumps(texts).encode()).decode()

    def beyond(self, cursor: str, backwards: bool = False) -> GreaterThan | LessThan:
        """The rows behind a cursor. Raises IncorrectLookupParameters for one that is none of ours."""
        try:
            texts = json.loads(signing.b64_decode(cursor.encode()))
            values = [column.to_python(text) for column, text in zip(self.columns, texts, strict=True)]
            if None in values or any("\0" in str(value) for value in values):
                raise ValueError
        except (ValueError, TypeError, ValidationError) as error:
            raise IncorrectLookupParameters(error) from error
        place = RowValue(*(Value(value, column) for value, column in zip(values, self.columns, strict=True)))
        comparison = LessThan if self.descends != backwards else GreaterThan
        return comparison(RowValue(*map(F, self.names)), place)


def page_of(
    queryset: models.QuerySet, order: Order, rows: int, *, after: str | None = None, before: str | None = None
) -> KeysetPage:
    """One page of a queryset. Raises IncorrectLookupParameters for a malformed cursor."""
    backwards = before is not None and after is None
    cursor = before if backwards else after
    if cursor is not None:
        queryset = queryset.filter(order.beyond(cursor, backwards))
    found = list(queryset.order_by(*order.ordering(backwards))[: rows + 1])
    there_are_more, found = len(found) > rows, found[:rows]
    if backwards:
        found.reverse()
    if not found:
        return KeysetPage([], None, None)
    has_previous, has_next = (there_are_more, True) if backwards else (cursor is not None, there_are_more)
    return KeysetPage(
        found,
        order.cursor_of(found[0]) if has_previous else None,
        order.cursor_of(found[-1]) if has_next else None,
    )


class PagedChangeList(ChangeList):
    """Django's, in the model admin's own order and by its pages, read from a replica where there is one."""

    def __init__(self, request, *args, **kwargs):
        parameters = request.GET.copy()
        self.after, self.before = ((parameters.pop(name, None) or [None])[-1] for name in (AFTER, BEFORE))
        request.GET = parameters  # else Django takes them for filters
        self.was_given_up = False
        replicas.read_for(request, partial(super().__init__, request, *args, **kwargs))

    def get_ordering(self, request, queryset):
        """sortable_by alone still admits ?o=3."""
        return self.model_admin.get_ordering(request)

    def get_results(self, request) -> None:
        try:
            with given_up_after(LIST_TIMEOUT_MS, self.queryset.db):
                self.page = self.model_admin.get_page(self.queryset, after=self.after, before=self.before)
        except TooSlowError:
            self.was_given_up = True
            self.page = KeysetPage([], None, None)
        self.result_list = self.page.rows
        self.result_count = len(self.page.rows)
        self.full_result_count = self.result_count  # else a total would be told, which nobody has counted
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = True
        self.paginator = self.model_admin.get_paginator(request, self.queryset, self.list_per_page)

    @property
    def first_page(self) -> str | None:
        return self.get_query_string() if self.after or self.before else None

    @property
    def previous_page(self) -> str | None:
        return self.page.previous and self.get_query_string({BEFORE: self.page.previous})

    @property
    def next_page(self) -> str | None:
        return self.page.next and self.get_query_string({AFTER: self.page.next})


class FirstRows(Paginator):
    """The first page and no other, for the boxes in which a row is looked up: neither COUNT nor OFFSET."""

    @cached_property
    def count(self) -> int:
        return len(self._rows)

    @cached_property
    def _rows(self) -> list[models.Model]:
        try:
            with given_up_after(LIST_TIMEOUT_MS, self.object_list.db):
                return list(self.object_list[: self.per_page])
        except TooSlowError:
            return []

    def page(self, number: int) -> Page:
        """Raises EmptyPage for any but the first."""
        if self.validate_number(number) != 1:
            raise EmptyPage
        return Page(self._rows, 1, self)
