"""The start page: numbers with their lists, days, and dbhealth's word."""

from datetime import UTC, datetime, time, timedelta

import pytest
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from keyhub.admin import counts
from keyhub.admin.counts import Count, count_by_day, count_of
from tenancy.models import Tenant, TenantJoinCode
from tests.factories import (
    AuditLogFactory,
    OperatorFactory,
    SessionFactory,
    TenantJoinCodeFactory,
    TenantMembershipFactory,
    UserFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.once]

START = reverse("admin:index")


@pytest.fixture(autouse=True)
def _nothing_kept():
    cache.clear()


@pytest.fixture
def admin(client):
    client.force_login(OperatorFactory(is_superuser=True))
    return client


def numbers(response) -> dict[str, str]:
    return {card.title: str(card.value) for card in response.context["cards"]}


def test_each_number_is_that_of_its_list(admin):
    now = timezone.now()
    TenantJoinCode.objects.all().delete()
    TenantJoinCodeFactory(expires_at=now + timedelta(days=6))
    TenantJoinCodeFactory(expires_at=now + timedelta(days=6), max_uses=1, used_count=1)
    TenantJoinCodeFactory(expires_at=now + timedelta(days=8))
    TenantJoinCodeFactory(expires_at=now + timedelta(days=6), revoked_at=now)
    TenantJoinCodeFactory(expires_at=now - timedelta(days=1))
    TenantMembershipFactory.create_batch(2)
    TenantMembershipFactory(left_at=now)
    SessionFactory.create_batch(3)
    SessionFactory(revoked=True)
    SessionFactory(last_accessed_at=now - timedelta(hours=2))  # idle
    response = admin.get(START)
    assert numbers(response) == {
        "Tenants": str(Tenant.objects.count()),
        "Active members": "2",
        "Codes that expire soon": "1",
        "Codes used up": "1",
        "Sessions alive": "3",
    }
    for card in response.context["cards"]:
        assert f'href="{card.link.replace("&", "&amp;")}"' in response.text
        listed = admin.get(card.link).context["cl"]
        assert len(listed.result_list) == card.value.rows, card.title


def test_each_day_is_that_of_its_list(admin):
    today = datetime.combine(timezone.now().astimezone(UTC).date(), time(), UTC)
    for ago, rows in ((0, 1), (1, 3), (13, 4), (14, 5)):
        for _ in range(rows):
            AuditLogFactory(created_at=today - timedelta(days=ago), action="user.login" if rows != 3 else "other")
    response = admin.get(START)
    sign_ins, activity = response.context["charts"]
    assert [sign_ins["title"], activity["title"]] == ["Sign-ins per day", "Audit rows per day"]
    assert [bar.count.rows for bar in sign_ins["bars"]] == [4, *[0] * 12, 1]
    assert [bar.count.rows for bar in activity["bars"]] == [4, *[0] * 11, 3, 1]
    assert [bar.percent for bar in activity["bars"]] == [100, *[0] * 11, 75, 25]
    for chart in (sign_ins, activity):
        for bar in chart["bars"]:
            assert len(admin.get(bar.link).context["cl"].result_list) == bar.count.rows


def test_an_operator_sees_the_numbers_of_what_may_be_viewed(client):
    operator = OperatorFactory()
    operator.user_permissions.set(Permission.objects.filter(codename="view_tenant"))
    client.force_login(operator)
    response = client.get(START)
    assert (list(numbers(response)), response.context["charts"]) == (["Tenants"], [])


def test_numbers_are_kept_for_a_minute(admin):
    before = numbers(admin.get(START))["Active members"]
    TenantMembershipFactory()
    response = admin.get(START)
    assert numbers(response)["Active members"] == before
    assert f"Numbers as of {response.context['as_of']:%H:%M:%S} UTC." in response.text
    cache.clear()
    assert numbers(admin.get(START))["Active members"] == str(int(before) + 1)


# Counting


def test_many_rows_are_estimated(monkeypatch):
    monkeypatch.setattr(counts, "MOST_ROWS_COUNTED", 5)
    UserFactory.create_batch(5)
    rows = UserFactory._meta.model.objects.all()
    assert count_of(rows) == Count(5)
    UserFactory.create_batch(200)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE users")
    assert count_of(rows) == Count(205, is_estimate=True)
    assert str(count_of(rows)) == "≈ 205"


def test_of_rows_that_the_planner_has_not_heard_of_it_is_told_how_many_there_are_at_least(monkeypatch):
    monkeypatch.setattr(counts, "MOST_ROWS_COUNTED", 5)
    UserFactory.create_batch(20)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE users")
    tomorrow = timezone.now() + timedelta(days=1)
    UserFactory.create_batch(9, created_at=tomorrow)
    count = count_of(UserFactory._meta.model.objects.filter(created_at__gte=tomorrow))
    assert (count, str(count)) == (Count(5, is_at_least=True), "5+")


def test_a_count_that_takes_too_long_is_estimated(monkeypatch):
    monkeypatch.setattr(counts, "COUNT_TIMEOUT_MS", 1)
    UserFactory()
    slow = UserFactory._meta.model.objects.extra(where=["pg_sleep(5) IS NOT NULL"])
    assert count_of(slow).is_estimate


@pytest.mark.parametrize(("rows", "text"), [(0, "0"), (1234567, "1,234,567")])
def test_numbers_are_told_with_their_thousands(rows, text):
    assert str(Count(rows)) == text


def test_days_are_those_of_utc():
    days = [day for day, _count in count_by_day(UserFactory._meta.model.objects.all(), "created_at", 3)]
    today = timezone.now().astimezone(UTC).date()
    assert days == [today - timedelta(days=2), today - timedelta(days=1), today]
