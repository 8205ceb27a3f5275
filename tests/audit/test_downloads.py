"""The audit log as a file: what the list shows, all of it, and nothing that a spreadsheet would run."""

import csv
import io
import json
import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from audit import downloads
from audit.models import AuditLog
from tenancy.models import DEFAULT_ORGANIZATION_ID
from tests.factories import AuditLogFactory, OperatorFactory

pytestmark = [pytest.mark.django_db, pytest.mark.once]

LIST = reverse("admin:audit_auditlog_changelist")


OF_THE_TEST = {"organization_id": DEFAULT_ORGANIZATION_ID}


def exports():
    return AuditLog.objects.filter(action="audit_log.export")


@pytest.fixture
def admin(client):
    client.force_login(OperatorFactory(email="olivia@keyhub.test", is_superuser=True))
    return client


def page(format: str) -> str:  # noqa: A002
    return reverse("admin:audit_auditlog_download", args=[format])


def text_of(response) -> str:
    return b"".join(response.streaming_content).decode()


def rows_of(response) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text_of(response).removeprefix("\ufeff"), newline="")))


def test_a_row_in_both_formats(admin):
    row = AuditLogFactory(
        tenant_id=uuid.uuid4(), tenant_label="研究室, \"A\"\nB", user_id=uuid.uuid4(), actor_label="alice@example.com",
        details={"old": 1, "名": ["x"]}, ip_address="203.0.113.7", user_agent="Firefox", outcome="denied",
        request_id="r-1",
    )  # fmt: skip
    response = admin.get(page("csv"), OF_THE_TEST)
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="audit-')
    assert rows_of(response) == [
        {
            "created_at": row.created_at.isoformat(), "id": str(row.pk), "organization_id": row.organization_id,
            "tenant_id": str(row.tenant_id), "tenant_label": row.tenant_label, "user_id": str(row.user_id),
            "actor_label": "alice@example.com", "action": row.action, "resource_type": row.resource_type,
            "resource_id": row.resource_id or "", "outcome": "denied", "details": '{"old": 1, "名": ["x"]}',
            "ip_address": "203.0.113.7", "user_agent": "Firefox", "request_id": "r-1",
        }
    ]  # fmt: skip
    (line,) = text_of(admin.get(page("jsonl"), OF_THE_TEST)).splitlines()
    told = json.loads(line)
    assert (told["id"], told["details"], told["tenant_label"]) == (str(row.pk), row.details, row.tenant_label)


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t=", "\r=", "\n=", "＝", "＋", "－", "＠"])
def test_a_formula_is_defused(admin, begin):
    formula = f"{begin}HYPERLINK(1)"
    AuditLogFactory(user_agent=formula, actor_label=formula, tenant_label=formula, request_id=formula)
    (row,) = rows_of(admin.get(page("csv"), {"action": "user.login"}))
    assert {row[name] for name in ("user_agent", "actor_label", "tenant_label", "request_id")} == {f"'{formula}"}


def test_what_is_filtered_is_downloaded_page_after_page(admin, monkeypatch):
    monkeypatch.setattr(downloads, "ROWS_A_QUERY", 3)
    now = timezone.now()
    rows = [
        AuditLogFactory(action=f"a.{n % 2}", organization_id="ORG-1", created_at=now - timedelta(days=40 * n))
        for n in range(20)
    ]
    AuditLogFactory(action="a.0", organization_id="ORG-2")
    downloaded = rows_of(admin.get(page("csv"), {"q": "ORG-1", "action": "a.0"}))
    assert [row["id"] for row in downloaded] == [str(row.pk) for row in rows if row.action == "a.0"]
    lines = text_of(admin.get(page("jsonl"), {"action": "a.1"})).splitlines()
    assert [json.loads(line)["id"] for line in lines] == [str(row.pk) for row in rows if row.action == "a.1"]


def test_what_is_written_meanwhile_does_not_come(admin):
    AuditLogFactory()
    response = admin.get(page("csv"), OF_THE_TEST)
    AuditLogFactory(created_at=timezone.now() + timedelta(seconds=1))
    assert len(rows_of(response)) == 1


def test_nothing_found_is_a_header(admin):
    assert text_of(admin.get(page("csv"), {"action": "none"})).count("\r\n") == 1
    assert text_of(admin.get(page("jsonl"), {"action": "none"})) == ""


def test_a_download_is_told(admin):
    admin.get(page("csv"), {"action": "user.login", "after": "x"})
    row = exports().get()
    assert (row.action, row.actor_label, row.organization_id) == ("audit_log.export", "olivia@keyhub.test", "-")
    assert row.details["filters"] == {"action": "user.login"}


def test_it_takes_a_permission_of_its_own(client):
    viewer = OperatorFactory()
    viewer.user_permissions.set(Permission.objects.filter(codename="view_auditlog"))
    client.force_login(viewer)
    assert "Download as" not in client.get(LIST).text
    assert client.get(page("csv")).status_code == 403
    exporter = OperatorFactory()
    exporter.user_permissions.set(Permission.objects.filter(codename="export_auditlog"))
    client.force_login(exporter)
    assert client.get(page("csv")).status_code == 403
    assert not exports().exists()


def test_another_format_or_filter_than_there_is(admin):
    assert admin.get(page("xlsx")).status_code == 404
    assert admin.get(page("csv"), {"user_agent__contains": "x"}).status_code == 400
    assert not exports().exists()
