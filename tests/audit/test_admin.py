"""The audit log is read, newest first, and never read as a whole."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from audit.models import AuditLog
from tests.factories import AuditLogFactory, OperatorFactory, OrganizationFactory

pytestmark = [pytest.mark.django_db, pytest.mark.once]

LIST = reverse("admin:audit_auditlog_changelist")


@pytest.fixture
def admin(client):
    client.force_login(OperatorFactory(is_superuser=True))
    return client


def entries(response) -> list[AuditLog]:
    return list(response.context["cl"].result_list)


def test_not_even_a_superuser_writes_to_it(admin):
    entry = AuditLogFactory(details={"reason": "password"})
    for page in ("change", "delete"):
        address = reverse(f"admin:audit_auditlog_{page}", args=[entry.pk])
        assert admin.post(address, {"post": "yes", "action": "changed"}).status_code == 403
    assert admin.post(reverse("admin:audit_auditlog_add"), {"action": "added"}).status_code == 403
    admin.post(LIST, {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"})
    assert [(row.pk, row.action) for row in AuditLog.objects.all()] == [(entry.pk, "user.login")]

    response = admin.get(reverse("admin:audit_auditlog_change", args=[entry.pk]))
    assert response.context["title"] == "View audit log"
    assert "password" in response.text
    assert 'name="_save"' not in response.text


def test_the_newest_comes_first(admin):
    now = timezone.now()
    ages = [3, 1, 2]
    rows = {age: AuditLogFactory(created_at=now - timedelta(minutes=age)) for age in ages}
    assert entries(admin.get(LIST)) == [rows[1], rows[2], rows[3]]
    # Another order would sort the whole table.
    assert entries(admin.get(LIST, {"o": "-1"})) == [rows[1], rows[2], rows[3]]
    assert "sortable" not in admin.get(LIST).text


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"q": "user.login"},
        {"q": "session 17"},
        {"q": str(uuid.uuid4())},
        {"organization_id": "ORG-DEFAULT-001"},
        {"created_at_from": "2026-01-01", "created_at_to": "2026-01-31"},
        {"_facets": "True", "all": "", "p": "1"},
    ],
)
def test_nothing_is_counted(admin, query):
    AuditLogFactory.create_batch(3)
    with CaptureQueriesContext(connection) as captured:
        assert admin.get(LIST, query).status_code == 200
    statements = [each["sql"] for each in captured.captured_queries if "audit_logs" in each["sql"]]
    assert 1 <= len(statements) <= 4  # spans of time
    for sql in statements:
        assert "COUNT(" not in sql
        assert "OFFSET" not in sql
        assert 'ORDER BY "audit_logs"."created_at" DESC, "audit_logs"."id" DESC' in sql


def test_an_entry_is_found_by_what_is_exactly_its_own(admin):
    wanted = AuditLogFactory(
        organization_id="ORG-ROBOTS",
        tenant_id=uuid.uuid4(),
        user_id=uuid.uuid4(),
        action="tenant.rename",
        resource_type="tenant",
        resource_id="17",
    )
    AuditLogFactory(resource_id="17")
    terms = [
        wanted.pk,
        wanted.tenant_id,
        f" {wanted.user_id} ",
        "ORG-ROBOTS",
        "tenant.rename",
        "tenant",
        "tenant 17",
    ]
    for term in terms:
        assert entries(admin.get(LIST, {"q": term})) == [wanted]
    for term in ("ORG", "rename", "17", "TENANT", "tenant 1", "session 18", uuid.uuid4()):
        assert entries(admin.get(LIST, {"q": term})) == []


@pytest.mark.parametrize("term", ["user.login", "session 17", "f47ac10b-58cc-4372-a567-0e02b2c3d479"])
def test_every_search_has_its_index(admin, term):
    """With sequential scans forbidden, each part of the plan names an index condition and none merely filters."""
    queryset = admin.get(LIST, {"q": term}).context["cl"].queryset
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = queryset.order_by().explain()
    assert "Index Cond" in plan
    assert "Seq Scan" not in plan
    assert "Filter" not in plan


def test_only_the_offered_filters_are_admitted(admin):
    AuditLogFactory()
    for lookup in ("user_agent__contains", "details__icontains", "created_at__year__gt", "action__regex", "id__gt"):
        assert admin.get(LIST, {lookup: "1"}).status_code == 400


def test_entries_are_filtered_by_organization_and_time(admin):
    OrganizationFactory(id="ORG-ROBOTS", name="Robots Inc.")
    old = AuditLogFactory(organization_id="ORG-ROBOTS", created_at=datetime(2024, 1, 31, 23, 59, tzinfo=UTC))
    new = AuditLogFactory(organization_id="ORG-ROBOTS")
    other = AuditLogFactory()
    assert entries(admin.get(LIST, {"organization_id": "ORG-ROBOTS"})) == [new, old]
    assert entries(admin.get(LIST, {"created_at_from": "2024-01-31", "created_at_to": "2024-01-31"})) == [old]
    assert entries(admin.get(LIST, {"created_at_from": "2024-02-01"})) == [other, new]
    assert entries(admin.get(LIST, {"created_at_to": "2024-01-30"})) == []
    assert admin.get(LIST, {"created_at_from": "yesterday"}).url == f"{LIST}?e=1"


def test_entries_are_filtered_by_what_is_exactly_theirs(admin):
    AuditLogFactory()
    wanted = AuditLogFactory(
        tenant_id=uuid.uuid4(), user_id=uuid.uuid4(), action="tenant.rename", resource_type="tenant", resource_id="17",
        outcome="denied",
    )  # fmt: skip
    for name in ("tenant_id", "user_id", "action", "resource_type", "resource_id"):
        assert entries(admin.get(LIST, {name: str(getattr(wanted, name))})) == [wanted]
    assert entries(admin.get(LIST, {"outcome__exact": "denied"})) == [wanted]
    for name in ("tenant_id", "user_id"):
        assert entries(admin.get(LIST, {name: "17"})) == []


def test_pages_go_on_where_the_last_one_ended(admin):
    now = timezone.now()
    rows = [AuditLogFactory(created_at=now - timedelta(days=n)) for n in range(120)]
    seen, page = [], LIST
    while page:
        listed = admin.get(page).context["cl"]
        seen += listed.result_list
        page = listed.next_page and LIST + listed.next_page
    assert seen == rows
    assert admin.get(LIST, {"after": "nonsense"}).url == f"{LIST}?e=1"
