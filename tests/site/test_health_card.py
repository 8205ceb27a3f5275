"""dbhealth's word on the start page, which comes by itself."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.urls import reverse

from keyhub import dbhealth
from keyhub.admin import start_page
from tests.factories import OperatorFactory

pytestmark = pytest.mark.once

HEALTH = reverse("health")


@pytest.fixture(autouse=True)
def _nothing_kept():
    cache.clear()


@pytest.fixture
def admin(migrated_database, connected_to) -> Iterator[Client]:
    """On a database of its own: dbhealth wants a transaction of its own."""
    with connected_to(migrated_database):
        client = Client()
        client.force_login(OperatorFactory(is_superuser=True))
        yield client


def test_findings_are_told_with_their_mends(admin):
    assert "Healthy." in admin.get(HEALTH).text
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX idx_users_created_at")
    assert "Healthy." in admin.get(HEALTH).text  # kept for five minutes
    text = admin.post(HEALTH).text
    assert "1 finding." in text
    assert "idx_users_created_at" in text
    assert "CREATE INDEX" in text


def test_the_age_of_the_look_is_told(admin):
    admin.get(HEALTH)
    assert "Looked at less than a minute ago." in admin.get(HEALTH).text
    look = cache.get("start_page:health")
    cache.set("start_page:health", start_page.Look(look.results, look.at - timedelta(minutes=4)))
    assert "Looked at 4\xa0minutes ago." in admin.get(HEALTH).text


def test_the_newest_proved_backup_is_told(admin, settings, tmp_path):
    settings.BACKUP_URL = tmp_path.as_uri()
    text = admin.post(HEALTH).text
    assert "no backup of this database is proved" in text
    assert "manage.py dbbackup --prove" in text


def test_where_no_backups_are_kept_that_is_told(admin):
    assert "Backups are not looked for, because BACKUP_URL is not set." in admin.get(HEALTH).text


def test_of_many_who_ask_one_looks(monkeypatch):
    looks = []

    def look() -> list[dbhealth.Report]:
        looks.append("look")
        threading.Event().wait(0.2)
        return [dbhealth.Report("default")]

    monkeypatch.setattr(start_page, "run_everywhere", look)
    barrier = threading.Barrier(8)

    def ask(again: bool) -> None:
        barrier.wait()
        start_page._look(again=again)

    for again in (False, True):
        threads = [threading.Thread(target=ask, args=[again]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert looks == ["look", "look"]


def test_who_is_nobody_learns_nothing(client):
    assert client.get(HEALTH).url == f"/admin/login/?next={HEALTH}"
