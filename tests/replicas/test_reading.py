"""Lists and exports from real standbys: whose rows an operator sees, right after writing and else."""

import json

import pytest
from django.contrib import admin
from django.core.signing import Signer
from django.db import connection
from django.http import HttpResponse
from django.urls import reverse

from accounts.models import User
from audit import downloads
from keyhub import replicas
from keyhub.admin import KeyHubAdmin, page_of_list, page_of_row
from tenancy.models import DEFAULT_ORGANIZATION_ID
from tests.factories import AuditLogFactory, OrganizationFactory, TenantFactory, UserFactory
from tests.replicas.conftest import paused
from tests.site.scene import build

pytestmark = pytest.mark.database

NO_MEMBERS = {"memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0}
REPLICAS = {"replica1", "replica2"}
LIST = reverse("admin:tenancy_tenant_changelist")
USERS = reverse("admin:accounts_user_changelist")
AUDIT = reverse("admin:audit_auditlog_changelist")
START = reverse("admin:index")


def names(text: str, *wanted: str) -> list[str]:
    return [name for name in wanted if name in text]


# Where lists are read


def test_each_list_is_read_from_a_replica_and_its_page_asks_nothing_more(site):
    build()
    client = site.operator()
    site.cluster.follow_all()
    for model, model_admin in admin.site._registry.items():
        if isinstance(model_admin, KeyHubAdmin):
            _text, readers = site.list_of(client, page_of_list(model), model._meta.db_table)
            assert (len(readers), readers[0] in REPLICAS) == (1, True), model
            # The session and the operator, the place of the primary; then the list, and nothing for its rows.
            databases = [alias for alias, _statement in site.read]
            assert databases == ["default"] * 3 + readers * (len(databases) - 3), model


@pytest.mark.once
def test_filters_and_searches_are_read_where_the_rows_are(one):
    OrganizationFactory(id="ORG-FILTER", name="Filter Works")
    TenantFactory(organization_id="ORG-FILTER", name="Strainer")
    one.cluster.follow_all()
    text, readers = one.list_of(one.operator(), LIST, "tenants", q="strain", organization_id="ORG-FILTER")
    assert (names(text, "Strainer", "Filter Works"), readers) == (["Strainer", "Filter Works"], ["replica1"])
    assert one.readers_of("organizations") == ["replica1"]


def test_both_replicas_are_read_in_time(site):
    read = {replicas.read(lambda: User.objects.all().db) for _ in range(64)}  # one alone: once in 2 ** 63 runs
    assert read == REPLICAS


@pytest.mark.once
def test_pages_of_rows_forms_and_boxes_are_read_from_the_primary(one):
    client, tenant = one.operator(), TenantFactory()
    one.cluster.follow_all()
    boxes = reverse("admin:autocomplete"), {"app_label": "tenancy", "model_name": "group", "field_name": "tenant"}
    for page, parameters in [(page_of_row(tenant), {}), (reverse("admin:tenancy_group_add"), {}), boxes]:
        one.read.clear()
        assert client.get(page, parameters).status_code == 200
        assert {alias for alias, _statement in one.read} == {"default"}


@pytest.mark.once
def test_the_numbers_of_the_start_page_are_counted_on_a_replica(one):
    client = one.operator()
    one.cluster.follow_all()
    one.list_of(client, START, "tenants")
    assert (one.readers_of("tenants"), one.readers_of("audit_logs")) == (["replica1"], ["replica1"])


@pytest.mark.once
def test_without_replicas_nothing_is_asked_and_no_cookie_is_set(process):
    site = process()
    client = site.operator()
    client.post(page_of_row(UserFactory()), {})
    assert "written" not in client.cookies
    assert site.list_of(client, LIST, "tenants")[1] == ["default"]
    assert "pg_control" not in str(site.read)


# After writing


def test_who_has_written_sees_it_and_who_has_not_reads_the_replica(site):
    writer, reader = site.operator(), site.operator()
    site.cluster.follow_all()
    with paused(*site.cluster.kept) as replays:
        added = {"organization_id": DEFAULT_ORGANIZATION_ID, "name": "Just added", "slug": "just-added"}
        page = reverse("admin:tenancy_tenant_add")
        assert writer.post(page, {**added, "tenant_type": "team", **NO_MEMBERS}).status_code == 302
        for _ in range(4):
            text, readers = site.list_of(writer, LIST, "tenants")
            assert (names(text, "Just added"), readers) == (["Just added"], ["default"])
            text, (replica,) = site.list_of(reader, LIST, "tenants")
            assert (names(text, "Just added"), replica in REPLICAS) == ([], True)
        replays[0].execute("SELECT pg_wal_replay_resume()")
        site.cluster.follow(site.cluster.kept[0])
        for _ in range(4):
            text, readers = site.list_of(writer, LIST, "tenants")
            assert (names(text, "Just added"), readers) == (["Just added"], ["replica1"])


@pytest.mark.once
def test_each_method_that_may_write_is_remembered(one, settings):
    settings.SESSION_COOKIE_SECURE = True
    client = one.operator()
    for method, is_remembered in [
        ("get", False), ("head", False), ("options", False), ("post", True), ("put", True), ("patch", True),
        ("delete", True),
    ]:  # fmt: skip
        client.cookies.pop("written", None)
        getattr(client, method)(LIST)
        assert ("written" in client.cookies) is is_remembered, method
    cookie = client.cookies["written"]
    assert {name: cookie[name] for name in ("httponly", "samesite", "secure", "path", "domain", "max-age")} == {
        "httponly": True, "samesite": "Lax", "secure": True, "path": "/", "domain": "", "max-age": 43200,
    }  # fmt: skip


def test_the_place_is_behind_what_is_committed_without_waiting_for_the_disk(one):
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        UserFactory()
        cursor.execute("SELECT pg_current_wal_insert_lsn()::text")
        (end,) = cursor.fetchone()
        response = HttpResponse()
        place = replicas.remember_writes(response)
        cursor.execute("SELECT %s::pg_lsn >= %s::pg_lsn", [place, end])
        assert cursor.fetchone() == (True,)


@pytest.mark.once
@pytest.mark.parametrize(
    "forge",
    [
        lambda value: value[:-1] + ("A" if value[-1] != "A" else "B"),
        lambda value: "0/0",
        lambda value: "",
        lambda value: "0/0:" + value.partition(":")[2],
        lambda value: Signer(salt="written").sign("'; DROP TABLE users"),
        lambda value: "\xff" * 5_000,
    ],
    ids=["signature", "bare", "empty", "another place", "injection", "long"],
)
def test_a_cookie_that_is_none_of_ours_leads_to_the_primary(one, forge):
    client = one.operator()
    client.post(LIST)
    one.cluster.follow_all()
    assert one.list_of(client, LIST, "tenants")[1] == ["replica1"]
    client.cookies["written"] = forge(client.cookies["written"].value)
    assert one.list_of(client, LIST, "tenants")[1] == ["default"]
    client.post(LIST)  # gives a good one
    one.cluster.follow_all()
    assert one.list_of(client, LIST, "tenants")[1] == ["replica1"]


def test_an_operation_looks_at_the_rows_of_the_primary(one):
    """The rows selected are those that the action is taken on, however old the list is that they were selected in."""
    user, client = UserFactory(), one.operator()
    one.cluster.follow_all()
    with paused(one.cluster.kept[0]):
        User.objects.filter(pk=user.pk).update(name="Renamed meanwhile")
        one.read.clear()
        response = client.post(USERS, {"action": "disable", "_selected_action": [str(user.pk)], "confirmed": "yes"})
        assert response.status_code == 302
        assert {alias for alias, _statement in one.read} == {"default"}
    user.refresh_from_db()
    assert (user.name, user.disabled_at is not None) == ("Renamed meanwhile", True)


# Downloads


def test_a_download_is_complete_whatever_the_replica_has(one, monkeypatch):
    monkeypatch.setattr(downloads, "ROWS_A_QUERY", 3)
    rows = [AuditLogFactory(action="download.test").pk for _ in range(4)]
    client = one.operator()
    one.cluster.follow_all()
    with paused(one.cluster.kept[0]) as (replay,):
        rows += [AuditLogFactory(action="download.test").pk for _ in range(4)]
        one.read.clear()
        response = client.get(reverse("admin:audit_auditlog_download", args=["jsonl"]), {"action": "download.test"})
        lines = iter(response.streaming_content)
        told = [json.loads(next(lines))["id"] for _ in range(4)]
        assert one.readers_of("audit_logs") == ["replica1", "default"]  # the list, and then its rows
        # The download is in the log, and so in the list of who has asked for it.
        text, readers = one.list_of(client, AUDIT, "audit_logs")
        assert (names(text, "audit_log.export"), readers) == (["audit_log.export"], ["default"])
        replay.execute("SELECT pg_wal_replay_resume()")
        one.cluster.follow_all()
        one.read.clear()
        told += [json.loads(line)["id"] for line in lines]
    assert told == [str(row) for row in reversed(rows)]
    assert one.readers_of("audit_logs") == ["replica1"]
