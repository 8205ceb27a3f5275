"""DATABASE_URL as libpq reads it, and one sentence without a secret where it cannot be read."""

import re
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from keyhub.database_url import database_from_url

FORMS = "postgres://user:password@host:5432/database or, in development, embedded:///absolute/folder"


def test_one_host():
    assert database_from_url("postgres://alice:secret@db.example.com:5433/keyhub?sslmode=require") == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "keyhub",
        "USER": "alice",
        "PASSWORD": "secret",
        "HOST": "db.example.com",
        "PORT": "5433",
        "OPTIONS": {"application_name": "keyhub", "sslmode": "require"},
    }


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://h/keyhub", {"HOST": "h", "PORT": "", "USER": "", "PASSWORD": ""}),
        ("postgres://h1:5432,h2:5433/keyhub", {"HOST": "h1,h2", "PORT": "5432,5433"}),
        # The port that is left out is 5432, not that of the other host.
        ("postgres://h1,h2:5433/keyhub", {"HOST": "h1,h2", "PORT": ",5433"}),
        ("postgres://[::1]:5432/keyhub", {"HOST": "::1", "PORT": "5432"}),
        ("postgres:///keyhub?host=/run/post%20gres", {"HOST": "/run/post gres"}),
        ("postgres://u:p+q?#:%40%2F%25@h/key+hub", {"NAME": "key+hub", "PASSWORD": "p+q?#:@/%"}),
        ("postgres://h/keyhub?user=alice@server", {"USER": "alice@server"}),
        ("postgres://h/keyhub?application_name=report", {"OPTIONS": {"application_name": "report"}}),
    ],
)
def test_like_libpq(url, expected):
    database = database_from_url(url)
    assert {name: database[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("url", "folder", "bin_directory"),
    [
        ("embedded:///srv/keyhub", "/srv/keyhub", None),
        ("embedded:///srv/a b#c%25%3F%E6%97%A5本/", "/srv/a b#c%?日本", None),
        ("embedded:///srv/keyhub?bin=/usr/lib/post%20gres/bin", "/srv/keyhub", "/usr/lib/post gres/bin"),
        ("embedded:///srv/keyhub?bin=", "/srv/keyhub", None),
    ],
)
def test_embedded(url, folder, bin_directory):
    assert database_from_url(url) == {
        "ENGINE": "keyhub.embedded",
        "NAME": "keyhub",
        "USER": "keyhub",
        "OPTIONS": {"application_name": "keyhub"},
        "EMBEDDED": {"folder": Path(folder), "bin_directory": bin_directory and Path(bin_directory)},
    }


def test_another_variable_is_named():
    with pytest.raises(ImproperlyConfigured, match=r"^ADMIN_DATABASE_URL is no URL\. "):
        database_from_url("keyhub", "ADMIN_DATABASE_URL")


NO_FOLDER = (
    "DATABASE_URL names no folder for an embedded PostgreSQL. Set it to embedded:///absolute/folder or "
    "embedded:///absolute/folder?bin=/folder/of/postgres/programs."
)
UNENCODED = (
    "DATABASE_URL cannot be read, since its user or password holds a character that means something else in a URL. "
    "Write % as %25, / as %2F and @ as %40."
)
NO_PORT = f"DATABASE_URL names a port that is no number from 1 to 65535. Set it to {FORMS}."

NO_PARAMETER = f"DATABASE_URL cannot be read (invalid URI query parameter). Set it to {FORMS}."


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("keyhub", f"DATABASE_URL is no URL. Set it to {FORMS}."),
        ("alice:SECRET@host://keyhub", f"DATABASE_URL is no URL. Set it to {FORMS}."),
        ("host=h password=SECRET", f"DATABASE_URL is no URL. Set it to {FORMS}."),
        (
            "mysql://alice:SECRET@h/keyhub",
            f"DATABASE_URL begins with mysql://, but KeyHub runs on PostgreSQL only. Set it to {FORMS}.",
        ),
        ("postgres://alice:SECRET@h", f"DATABASE_URL names no database. Set it to {FORMS}."),
        ("postgres://alice:SECRET@h/", f"DATABASE_URL names no database. Set it to {FORMS}."),
        ("postgres://alice:SECRET@h:port/keyhub", NO_PORT),
        ("postgres://alice:SECRET@h:0/keyhub", NO_PORT),
        ("postgres://alice:SECRET@h1:5432,h2:65536/keyhub", NO_PORT),
        ("postgres://alice:SECRET/keyhub", NO_PORT),
        ("postgres://alice:x/SECRET@h/keyhub", UNENCODED),
        ("postgres://alice:5432/SECRET@h/keyhub", UNENCODED),
        ("postgres://alice:x@SECRET@h/keyhub", UNENCODED),
        (
            "postgres://alice:x%SECRET@h/keyhub",
            f"DATABASE_URL cannot be read (invalid percent-encoded token). Set it to {FORMS}.",
        ),
        (
            "postgres://alice:SECRET@[::1/keyhub",
            'DATABASE_URL cannot be read (end of string reached when looking for matching "]" in IPv6 host address in '
            f"URI). Set it to {FORMS}.",
        ),
        ("postgres://alice:x/y?SECRET=1@h/keyhub", NO_PARAMETER),
        ("postgres://alice:SECRET@h/keyhub?sslmod=require", NO_PARAMETER),
        ("embedded://", NO_FOLDER),
        ("embedded:///", NO_FOLDER),
        ("embedded://srv/keyhub", NO_FOLDER),
        ("embedded:///srv/%00", NO_FOLDER),
        ("embedded:///srv/%FF", NO_FOLDER),
        ("embedded:///srv/\udcff", NO_FOLDER),
        ("embedded:///srv?bin=relative", NO_FOLDER),
        ("embedded:///srv?bni=", NO_FOLDER),
    ],
)
def test_refused_in_one_sentence_without_the_secret(url, sentence):
    with pytest.raises(ImproperlyConfigured, match=f"^{re.escape(sentence)}$") as excinfo:
        database_from_url(url)
    assert excinfo.value.__suppress_context__ or excinfo.value.__context__ is None
