"""What a row's page shows beside its form: rows of other tables, as tables of few rows with a link to all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from django.apps import apps
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from keyhub.admin import journal
from keyhub.admin.links import link_to_page, page_of_list


@dataclass(frozen=True)
class Table:
    """Cells by row; `more` is the address of the whole list and `add` that of a form for another row, `note` stands
    below, and `depths` are those of rows that form a tree.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    more: str | None = None
    add: str | None = None
    add_label: str = ""
    add_permission: str = ""
    note: str = ""
    depths: Sequence[int] = ()

    @property
    def lines(self) -> list[tuple[int, Sequence[object]]]:
        return list(zip(self.depths or [0] * len(self.rows), self.rows, strict=True))


@dataclass(frozen=True)
class Section:
    """A part of a row's page, for operators with the permission to view what it shows."""

    title: str
    permission: str
    table: Callable[[models.Model], Table | None]  # None where there is nothing to show


_registered: defaultdict[type[models.Model], list[Section]] = defaultdict(list)


def register_section(model: type[models.Model], section: Section) -> None:
    """Show a section on the pages of a model."""
    _registered[model] = [known for known in _registered[model] if known.title != section.title] + [section]


def sections_of(request: HttpRequest, row: models.Model) -> list[tuple[str, Table]]:
    permitted = [each for each in _registered[type(row)] if request.user.has_perm(each.permission)]
    tables = [(section.title, section.table(row)) for section in permitted]
    return [
        (title, table if request.user.has_perm(table.add_permission) else replace(table, add=None))
        for title, table in tables
        if table is not None
    ]


def _audit_rows(row: models.Model) -> Table:
    rows = [
        (link_to_page(each, each.created_at), each.action, each.actor_label, each.resource_type,
         each.get_outcome_display())
        for each in journal.latest(row)
    ]  # fmt: skip
    more = page_of_list(apps.get_model("audit", "AuditLog"), **journal.lookups_of(row))
    return Table([_("When"), _("Action"), _("Actor"), _("Resource"), _("Outcome")], rows, more)


LATEST_AUDIT_ROWS = Section(gettext_lazy("Latest audit rows"), "audit.view_auditlog", _audit_rows)
