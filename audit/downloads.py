"""The audit log as a file, row by row: nothing is gathered in memory, and no transaction stays open.

Rows are read from a replica where there is one that has come to the place of the primary's log given as `since`.
"""

import csv
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import QuerySet

from audit.models import AuditLog
from keyhub import replicas

ROWS_A_QUERY = 1_000
PAGE_PATIENCE_S = 300.0  # rows of a filter that no index serves are looked for in all months
COLUMNS = (
    "created_at", "id", "organization_id", "tenant_id", "tenant_label", "user_id", "actor_label", "action",
    "resource_type", "resource_id", "outcome", "details", "ip_address", "user_agent", "request_id",
)  # fmt: skip
# What a spreadsheet takes for a formula: https://owasp.org/www-community/attacks/CSV_Injection
FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def as_csv(rows: QuerySet, since: str) -> Iterator[str]:
    """Lines of RFC 4180, with a header. A text that a spreadsheet would run begins with an apostrophe."""
    line = csv.writer(_Line(), lineterminator="\r\n")
    yield "\ufeff" + line.writerow(COLUMNS)  # else Excel reads UTF-8 as something else
    for row in _all(rows, since):
        yield line.writerow([_cell(getattr(row, column)) for column in COLUMNS])


def as_jsonl(rows: QuerySet, since: str) -> Iterator[str]:
    """A JSON object in each line: https://jsonlines.org"""
    for row in _all(rows, since):
        values = {column: getattr(row, column) for column in COLUMNS}
        yield json.dumps(values, cls=DjangoJSONEncoder, ensure_ascii=False) + "\n"


FORMATS: dict[str, tuple[Callable[[QuerySet, str], Iterator[str]], str]] = {
    "csv": (as_csv, "text/csv; charset=utf-8"),
    "jsonl": (as_jsonl, "application/jsonl; charset=utf-8"),
}


class _Line:
    """For csv.writer, whose writerow() then returns the line."""

    def write(self, text: str) -> str:
        return text


def _all(rows: QuerySet, since: str) -> Iterator[AuditLog]:
    after = None
    while True:
        page = replicas.read(partial(rows.page, after, rows=ROWS_A_QUERY), since, PAGE_PATIENCE_S)
        yield from page.rows
        if page.next is None:
            return
        after = page.next


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return f"'{text}" if text.startswith(FORMULA_BEGINS) else text
