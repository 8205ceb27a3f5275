"""Pages of the log: every row once, newest first, whatever lies between them; a bounded number of queries."""

import base64
import itertools
import re
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.models import AuditLog
from audit.pages import CursorError, Position

pytestmark = pytest.mark.django_db

NOW = datetime.now(UTC)
EVENT = {"action": "a", "resource_type": "r", "organization_id": "o"}


def ingest(*ages: timedelta, organization_id: str = "ORG-DEFAULT-001") -> None:
    AuditLog.objects.ingest(
        {"action": "a", "resource_type": "r", "organization_id": organization_id, "created_at": NOW - age}
        for age in ages
    )


def pages(rows: int, **filters) -> list[list]:
    found, cursor = [], None
    while True:
        page = AuditLog.objects.filter(**filters).page(cursor, rows=rows)
        found.append(page.rows)
        if page.next is None:
            return found
        cursor = page.next


AGES = [timedelta(days=days) for days in (0, 0, 0, 1, 30, 31, 32, 32, 200, 800, 800, 800, 4000, 9000)]


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 13, 14, 15, 1000])
def test_every_row_comes_once_and_newest_first(rows):
    ingest(*AGES)
    found = pages(rows)
    assert list(itertools.chain(*found)) == list(AuditLog.objects.order_by("-created_at", "-id"))
    assert [len(page) for page in found[:-1]] == [rows] * (len(found) - 1)
    assert found[-1]


def test_rows_that_come_meanwhile_shift_nothing():
    ingest(*AGES)
    first = AuditLog.objects.page(rows=5)
    ingest(*[timedelta(0)] * 20)
    second = AuditLog.objects.page(first.next, rows=5)
    assert not {row.pk for row in first.rows} & {row.pk for row in second.rows}
    assert second.rows[0].created_at <= first.rows[-1].created_at


def test_of_one_organization_alone():
    ingest(*AGES)
    ingest(timedelta(days=3), timedelta(days=5000), organization_id="ORG-ACME")
    assert [row.organization_id for page in pages(1, organization_id="ORG-ACME") for row in page] == ["ORG-ACME"] * 2


def test_nothing_there():
    page = AuditLog.objects.page()
    assert (page.rows, page.next) == ([], None)


def test_one_query_for_a_page_of_the_last_weeks_and_four_at_most(django_assert_num_queries):
    ingest(*[timedelta(hours=hours) for hours in range(60)])
    with django_assert_num_queries(1):
        page = AuditLog.objects.page()
    with django_assert_num_queries(4):
        assert len(AuditLog.objects.page(page.next).rows) == 10


def test_the_planner_opens_the_months_of_the_span_alone():
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE audit_logs_2020_01 PARTITION OF audit_logs "
            "FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2020-02-01 00:00:00+00')"
        )
        ingest(timedelta(0), timedelta(0))
        statements = []
        with connection.execute_wrapper(
            lambda execute, sql, params, many, context: (
                statements.append((sql, params)),
                execute(sql, params, many, context),
            )[1]
        ):
            AuditLog.objects.page(rows=1)
        ((sql, params),) = statements
        cursor.execute(f"EXPLAIN {sql}", params)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "audit_logs_2020_01" not in plan
    assert f"audit_logs_{NOW:%Y_%m}" in plan


def test_the_latest_of_a_resource_are_read_without_a_sort():
    """No more of its rows than the page has are read, but for those that an incremental sort reads at a time."""
    AuditLog.objects.ingest(
        {**EVENT, "resource_id": number % 2, "created_at": NOW - timedelta(seconds=number)} for number in range(5_000)
    )
    AuditLog.objects.ingest({**EVENT, "resource_id": number} for number in range(1_000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE audit_logs")
    with CaptureQueriesContext(connection) as queries:
        assert len(AuditLog.objects.filter(resource_type="r", resource_id="1").page().rows) == 50
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN ANALYZE {queries[-1]['sql']}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    scans = re.findall(r"Scan using \w+_resource_type_resource_id_created_at_idx .* rows=(\d+)(?:\.\d+)? loops", plan)
    assert scans, plan
    assert max(map(int, scans)) <= 150, plan


@pytest.mark.parametrize(
    "cursor", ["x", "é", "AAAA", base64.urlsafe_b64encode(b"\x7f" + b"\xff" * 23).decode(), "a" * 1000, "\0"], ids=ascii
)
def test_a_cursor_of_somebody_elses(cursor):
    with pytest.raises(CursorError) as refusal:
        AuditLog.objects.page(cursor)
    assert str(refusal.value) == (
        "The cursor of the page is malformed. Take `next` of the page before, or begin without one."
    )


def test_the_first_year_has_no_year_before_it():
    ingest(timedelta(0))
    first = Position(datetime(1, 1, 2, tzinfo=UTC), AuditLog.objects.get().pk)
    assert AuditLog.objects.page(first.cursor).rows == []


@pytest.mark.parametrize("rows", [0, -1, 1001])
def test_a_page_has_a_size(rows):
    with pytest.raises(ValueError, match=rf"^A page has 1 to 1000 rows, not {rows}\.$"):
        AuditLog.objects.page(rows=rows)


def test_the_asynchronous_twin():
    async def page():
        await AuditLog.objects.aingest([{"action": "a", "resource_type": "r", "organization_id": "o"}])
        return await AuditLog.objects.apage()

    assert len(async_to_sync(page)().rows) == 1


def test_rows_out_of_all_time_have_no_page():
    ingest(timedelta(0))
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audit_logs (organization_id, action, resource_type, created_at) SELECT 'o', 'a', 'r', moment "
            "FROM unnest('{infinity,infinity,-infinity,-infinity,4713-01-01 00:00:00+00 BC}'::timestamptz[]) AS moment"
        )
    assert [len(page) for page in pages(1)] == [1]
