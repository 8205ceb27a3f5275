"""Lists are read page by page, in both directions, without counting and within a time."""

import json

import pytest
from django.core import signing
from django.core.paginator import EmptyPage
from django.db import DataError, connection
from django.urls import reverse

from accounts.models import User
from keyhub.admin import pages
from keyhub.admin.pages import FirstRows, Order, TooSlowError, given_up_after, page_of
from tenancy.models import TenantMembership
from tests.factories import OperatorFactory, TenantFactory, TenantMembershipFactory, UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.once]

USERS = reverse("admin:accounts_user_changelist")


@pytest.fixture
def admin(client):
    client.force_login(OperatorFactory(is_superuser=True))
    return client


def listed(response):
    return response.context["cl"]


@pytest.mark.parametrize("ordering", [("-created_at", "-id"), ("email", "id")])
def test_pages_hold_each_row_once_there_and_back(ordering):
    moment = UserFactory().created_at
    for number in range(25):  # rows of one transaction have one time
        UserFactory(created_at=moment, email=f"p{number % 3}{number}@example.com")
    order, rows = Order(User, ordering), list(User.objects.order_by(*ordering))
    there, cursor, back = [], None, []
    while True:
        page = page_of(User.objects.all(), order, 7, after=cursor)
        assert (page.previous is None) == (cursor is None)
        there += page.rows
        if page.next is None:
            break
        cursor = page.next
    assert there == rows
    cursor = page.previous
    while cursor:
        page = page_of(User.objects.all(), order, 7, before=cursor)
        assert page.next is not None
        back = page.rows + back
        cursor = page.previous
    assert back == rows[: len(back)]
    assert len(back) == 21


def test_a_page_of_members_begins_in_the_middle_of_a_tenant_by_the_index():
    tenant = TenantFactory()
    rows = [TenantMembershipFactory(tenant=tenant) for _ in range(5)]
    order = Order(TenantMembership, ("tenant_id", "user_id"))
    cursor = order.cursor_of(sorted(rows, key=lambda row: row.user_id)[2])
    queryset = TenantMembership.objects.filter(order.beyond(cursor)).order_by(*order.ordering())
    with connection.cursor() as settings:
        settings.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
    assert "Index Cond: (ROW(tenant_id, user_id) > ROW(" in queryset.explain()
    assert queryset.count() == 2


def test_a_page_that_is_empty_leads_nowhere():
    order = Order(User, ("-created_at", "-id"))
    page = page_of(User.objects.none(), order, 7)
    assert (page.rows, page.previous, page.next) == ([], None, None)


def cursor(*values: object) -> str:
    return signing.b64_encode(json.dumps(values).encode()).decode()


@pytest.mark.parametrize(
    "malformed",
    ["", "nonsense", "ü", cursor(), cursor(1), cursor("yesterday", "17"), cursor(None, None), cursor("a", "b", "c"),
     cursor({}, []), signing.b64_encode(b"17").decode(), signing.b64_encode(b"\xff").decode()],
)  # fmt: skip
@pytest.mark.parametrize("direction", ["after", "before"])
def test_a_malformed_cursor_leads_to_the_beginning(admin, malformed, direction):
    response = admin.get(USERS, {direction: malformed})
    assert (response.status_code, response.url) == (302, f"{USERS}?e=1")
    assert admin.get(response.url).status_code == 200


def test_the_page_of_a_list_has_its_filters_and_its_way(admin):
    for number in range(60):
        UserFactory(name=f"Person {number}")
    UserFactory(email="outsider@example.org")
    first = admin.get(USERS, {"q": "person", "disabled_at__isempty": "1"})
    assert (len(listed(first).result_list), listed(first).previous_page, listed(first).first_page) == (50, None, None)
    assert "50 rows on this page" in first.text
    second = admin.get(USERS + listed(first).next_page)
    assert (len(listed(second).result_list), listed(second).next_page) == (10, None)
    assert listed(second).first_page == "?disabled_at__isempty=1&q=person"
    again = admin.get(USERS + listed(second).previous_page)
    assert list(listed(again).result_list) == list(listed(first).result_list)
    assert "outsider@example.org" not in first.text + second.text


def test_an_exact_name_comes_before_its_parts(admin):
    alice, malice = UserFactory(email="alice@example.com"), UserFactory(email="malice@example.com")
    assert list(listed(admin.get(USERS, {"q": "ALICE@example.com"})).result_list) == [alice]
    assert set(listed(admin.get(USERS, {"q": "alice@"})).result_list) == {alice, malice}


def test_a_list_that_takes_too_long_is_given_up(admin, monkeypatch):
    monkeypatch.setattr(pages, "LIST_TIMEOUT_MS", 1)
    monkeypatch.setattr("keyhub.admin.model_admin.LIST_TIMEOUT_MS", 3000)
    monkeypatch.setattr(
        "accounts.admin.UserAdmin.get_queryset",
        lambda self, request: User.objects.extra(where=["pg_sleep(5) IS NOT NULL"]),
    )
    UserFactory()
    response = admin.get(USERS)
    assert [str(message) for message in response.context["messages"]] == [
        "This took longer than 3 seconds and was given up: search for a whole name or an id, or use fewer filters."
    ]
    assert list(listed(response).result_list) == []
    assert admin.get(reverse("admin:index")).status_code == 200  # the connection is usable


def statement_timeout() -> str:
    with connection.cursor() as asked:
        asked.execute("SHOW statement_timeout")
        return asked.fetchone()[0]


def test_a_time_limit_holds_inside_alone():
    before = statement_timeout()
    with given_up_after(1234, "default"):
        assert statement_timeout() == "1234ms"
    assert statement_timeout() == before
    with pytest.raises(TooSlowError), given_up_after(1, "default"), connection.cursor() as asked:
        asked.execute("SELECT pg_sleep(5)")
    assert statement_timeout() == before


def test_other_errors_than_the_limit_are_not_hidden():
    with pytest.raises(DataError), given_up_after(1000, "default"), connection.cursor() as asked:
        asked.execute("SELECT 1 / 0")


# The boxes in which a row is looked up


def test_a_box_offers_the_first_rows_and_counts_nothing(admin, django_assert_num_queries):
    UserFactory.create_batch(25)
    box = {"app_label": "tenancy", "model_name": "tenantmembership", "field_name": "user", "term": "person"}
    response = admin.get(reverse("admin:autocomplete"), box)
    assert (len(response.json()["results"]), response.json()["pagination"]) == (20, {"more": False})
    assert admin.get(reverse("admin:autocomplete"), box | {"page": "2"}).status_code == 404


def test_there_is_no_second_page_of_the_first_rows():
    paginator = FirstRows(User.objects.order_by("id"), 20)
    assert (paginator.count, list(paginator.page(1))) == (0, [])
    with pytest.raises(EmptyPage):
        paginator.page(2)
