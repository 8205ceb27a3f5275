"""Entries of DATABASES whose connections find the primary after a failover; tests/failover shows them at it."""

from collections.abc import Iterator

import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from keyhub.database_url import database_from_url
from keyhub.primary import to_the_primary
from tests.conftest import database_url

IN_TIME = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


def entry(url: str) -> dict:
    return to_the_primary(database_from_url(url))


def test_one_host_is_asked_for_nothing_and_in_time():
    assert entry("postgres://alice:secret@db.example.com:5433/keyhub") == {
        "ENGINE": "keyhub.primary",
        "NAME": "keyhub",
        "USER": "alice",
        "PASSWORD": "secret",
        "HOST": "db.example.com",
        "PORT": "5433",
        "OPTIONS": {"application_name": "keyhub", **IN_TIME},
    }


@pytest.mark.parametrize("url", ["postgres://h1,h2/keyhub", "postgres:///keyhub?hostaddr=10.0.0.1,10.0.0.2"])
def test_of_several_hosts_the_one_that_takes_writes(url):
    assert entry(url)["OPTIONS"].items() >= {"target_session_attrs": "read-write", **IN_TIME}.items()


@pytest.mark.parametrize(
    ("asked", "engine"),
    [
        ("read-write", "keyhub.primary"),
        ("primary", "keyhub.primary"),
        ("any", "django.db.backends.postgresql"),
        ("standby", "django.db.backends.postgresql"),
        ("prefer-standby", "django.db.backends.postgresql"),
        ("read-only", "django.db.backends.postgresql"),
    ],
)
def test_what_the_url_says_stays(asked, engine):
    database = entry(f"postgres://h1,h2/keyhub?target_session_attrs={asked}&connect_timeout=2&tcp_user_timeout=0")
    assert database["ENGINE"] == engine
    assert (
        database["OPTIONS"].items()
        >= {
            "target_session_attrs": asked,
            "connect_timeout": "2",
            "tcp_user_timeout": "0",
        }.items()
    )


def test_an_embedded_server_has_no_standby():
    embedded = database_from_url("embedded:///srv/keyhub")
    assert to_the_primary(embedded) == embedded


# The backend


@pytest.fixture
def wrapper(server, empty_database, django_db_blocker) -> Iterator[BaseDatabaseWrapper]:
    configured = connections.configure_settings({"default": entry(database_url(server, empty_database))})["default"]
    wrapper = load_backend("keyhub.primary").DatabaseWrapper(configured, "primary")
    with django_db_blocker.unblock():
        yield wrapper
        wrapper.close()


def test_a_connection_is_usable_as_long_as_it_works_and_writes(wrapper, server):
    assert not wrapper.is_usable()
    wrapper.connect()
    assert wrapper.is_usable()
    wrapper.connection.execute("SET default_transaction_read_only = on")
    assert not wrapper.is_usable()
    wrapper.connection.execute("SET default_transaction_read_only = off")
    assert wrapper.is_usable()
    with server.connect() as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", [wrapper.connection.info.backend_pid])
    assert not wrapper.is_usable()
