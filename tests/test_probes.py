"""/healthz, /readyz and /metrics, on databases that are well, absent, unmigrated, read-only, frozen and far away."""

import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import psycopg
import pytest
from django.db import connections
from django.http import HttpResponse
from django.test import RequestFactory

from audit.months import Month
from keyhub.database_url import database_from_url
from keyhub.probes.middleware import READY_LIFETIME_S, Probes
from tests.conftest import database_url
from tests.test_embedded import wait_for

pytestmark = pytest.mark.once

READY = (200, {"status": "ready"})
CANNOT_BE_ASKED = {"id": "keyhub.R001", "problem": "the database cannot be reached, or not be asked"}
NO_ANSWER = {"id": "keyhub.R002", "problem": "the database has not answered for 1.5 s"}
NOWHERE = "postgres://keyhub:hunter2@127.0.0.1:1/keyhub"
TOKEN = "a-token-of-at-least-thirty-two-characters"
SESSIONS = "SELECT pid, state_change FROM pg_stat_activity WHERE datname = %s AND application_name = 'keyhub probe'"

Ask = Callable[..., HttpResponse]


@pytest.fixture
def process(monkeypatch, django_db_blocker) -> Iterator[Callable[[str], Ask]]:
    """What a process of the site with this DATABASE_URL answers: process(url)("/readyz")."""
    made = []

    def process(url: str) -> Ask:
        database = {**connections.settings["default"], **database_from_url(url)}
        monkeypatch.setitem(connections.settings, "default", database)
        probes = Probes(lambda request: HttpResponse("a page"))
        made.append(probes)

        def ask(path: str, method: str = "GET", **headers: str) -> HttpResponse:
            return probes(RequestFactory().generic(method, path, headers=headers))

        return ask

    with django_db_blocker.unblock():
        yield process
        for probes in made:
            probes._readiness._examiner._close()


@pytest.fixture
def ask(process, server, migrated_database) -> Ask:
    """A process whose database is well."""
    return process(database_url(server, migrated_database))


@pytest.fixture
def admin(server, migrated_database) -> Iterator[psycopg.Connection]:
    with server.connect(migrated_database) as admin:
        yield admin


@pytest.fixture
def black_hole() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def answer(response: HttpResponse) -> tuple[int, dict]:
    return response.status_code, json.loads(response.content)


def not_ready(*findings: dict) -> tuple[int, dict]:
    return 503, {"status": "not ready", "findings": list(findings)}


def later(ask: Ask) -> tuple[int, dict]:
    """What it answers when its last answer is old."""
    time.sleep(READY_LIFETIME_S + 0.1)
    return answer(ask("/readyz"))


# Alive


def test_alive_without_a_database(process):
    response = process(NOWHERE)("/healthz")
    assert (response.status_code, response.content) == (200, b"ok\n")
    assert dict(response.items()) == {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": "3",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_get_and_head_alone(ask, path):
    head = ask(path, "HEAD")
    assert (head.status_code, head.content) == (ask(path).status_code, b"")
    assert head["Content-Length"] == ask(path)["Content-Length"] != "0"
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        response = ask(path, method)
        assert (response.status_code, response["Allow"], response.content) == (405, "GET, HEAD", b"")


def test_other_pages_are_not_touched(process):
    response = process(NOWHERE)("/healthz/", "POST")
    assert (response.content, "Cache-Control" in response) == (b"a page", False)


# Ready


def test_ready(ask):
    response = ask("/readyz")
    assert (response["Content-Type"], response["Cache-Control"]) == ("application/json", "no-store")
    assert answer(response) == READY


def test_no_database(process, caplog):
    ask = process(NOWHERE)
    assert answer(ask("/readyz")) == not_ready(CANNOT_BE_ASKED)
    assert later(ask) == not_ready(CANNOT_BE_ASKED)
    # The log says why, once; the answer names neither host nor role.
    ((_, level, line),) = caplog.record_tuples
    assert level == logging.ERROR
    assert line.startswith(
        "not ready: keyhub.R001 the database cannot be reached, or not be asked (connection failed: connection to "
        'server at "127.0.0.1", port 1 failed: Connection refused'
    )
    assert "hunter2" not in line


def test_an_unmigrated_database(process, server, empty_database):
    status, body = answer(process(database_url(server, empty_database))("/readyz"))
    assert (status, [finding["id"] for finding in body["findings"]]) == (503, ["keyhub.H001"])
    assert " migrations are pending: contenttypes.0001_initial, " in body["findings"][0]["problem"]


def test_a_database_of_an_older_version(process, server, manage, migrated_database):
    assert manage("migrate", "audit", "0010", "-v0", "--yes", database=migrated_database).returncode == 0
    status, body = answer(process(database_url(server, migrated_database))("/readyz"))
    assert (status, [finding["id"] for finding in body["findings"]]) == (503, ["keyhub.H001"])
    assert "pending: audit.0011_audit_logs_transaction_index" in body["findings"][0]["problem"]


def test_a_newer_database_goes_on_serving_the_code_before_it(ask, admin):
    admin.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('audit', '9999_tomorrow', now())")
    assert answer(ask("/readyz")) == READY


def test_lost_records(ask, admin):
    admin.execute("DELETE FROM django_migrations")
    problem = "nothing is recorded as applied, although there are tables"
    assert answer(ask("/readyz")) == not_ready({"id": "keyhub.H001", "problem": problem})


def test_what_the_allow_list_lets_pass(ask, admin, settings, tmp_path):
    settings.BASE_DIR = tmp_path
    admin.execute("DELETE FROM django_migrations")
    (tmp_path / "dbhealth.toml").write_text(
        '[[allow]]\nid = "keyhub.H001"\nobject = "django_migrations"\n'
        'reason = "restored from a dump without them"\nexpires = 2999-01-01\n'
    )
    assert answer(ask("/readyz")) == READY


def test_drift_that_stops_nobody_from_serving_is_no_reason(ask, admin):
    admin.execute("CREATE INDEX unordered ON users (name)")
    admin.execute("DROP TABLE organization_domains")
    # DEFAULT takes the rows of a month that is missing.
    this_month = Month.of(admin.execute("SELECT statement_timestamp() AT TIME ZONE 'UTC'").fetchone()[0])
    admin.execute(f"DROP TABLE {this_month.partition}")
    assert answer(ask("/readyz")) == READY


def test_a_database_that_takes_no_writes_and_then_does(ask, admin, migrated_database, caplog):
    read_only = {"id": "keyhub.H036", "problem": "sessions begin read-only: the database takes no writes"}
    admin.execute(f"ALTER DATABASE {migrated_database} SET default_transaction_read_only = on")
    assert answer(ask("/readyz")) == not_ready(read_only)
    admin.execute(f"ALTER DATABASE {migrated_database} RESET default_transaction_read_only")
    assert later(ask) == READY
    assert [record.getMessage() for record in caplog.records] == [
        f"not ready: keyhub.H036 {read_only['problem']}",
        "ready again",
    ]


# In time


def timed(ask: Ask) -> tuple[tuple[int, dict], float]:
    began_s = time.monotonic()
    return answer(ask("/readyz")), time.monotonic() - began_s


def test_a_server_that_never_answers(process, black_hole):
    ask = process(f"postgres://keyhub:hunter2@127.0.0.1:{black_hole}/keyhub")
    told, seconds = timed(ask)
    assert told == not_ready(NO_ANSWER)
    assert 1.4 < seconds < 2
    # Who asks while it is still trying does not wait.
    told, seconds = timed(ask)
    assert told == not_ready(NO_ANSWER)
    assert seconds < 0.2


def test_two_servers_the_first_of_them_switched_off(process, server, migrated_database, black_hole):
    live = quote(str(server.socket_directory), safe="")
    ask = process(f"postgres://keyhub@127.0.0.1:{black_hole},{live}:5432/{migrated_database}")
    assert answer(ask("/readyz")) == not_ready(NO_ANSWER)
    wait_for(lambda: answer(ask("/readyz")) == READY)
    # The connection to the second one is kept.
    assert later(ask) == READY


def test_a_frozen_connection_is_cut_and_made_anew(ask, admin, migrated_database):
    assert answer(ask("/readyz")) == READY
    ((pid, _),) = admin.execute(SESSIONS, [migrated_database]).fetchall()
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(READY_LIFETIME_S + 0.1)
        told, seconds = timed(ask)
        assert told == not_ready(NO_ANSWER)
        assert seconds < 2
        wait_for(lambda: answer(ask("/readyz")) == READY)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_an_ended_connection_is_made_anew(ask, admin, migrated_database):
    assert answer(ask("/readyz")) == READY
    admin.execute("SELECT pg_terminate_backend(pid) FROM (" + SESSIONS + ") AS sessions", [migrated_database])
    assert later(ask) == READY


def test_eight_at_once_make_one_examination(ask, admin, server, migrated_database):
    with server.connect(migrated_database) as rival, ThreadPoolExecutor(8) as threads:
        rival.execute("BEGIN")
        rival.execute("LOCK TABLE django_migrations IN ACCESS EXCLUSIVE MODE")
        answers = [threads.submit(ask, "/readyz") for _ in range(8)]
        wait_for(lambda: admin.execute("SELECT FROM pg_locks WHERE NOT granted").rowcount)
        time.sleep(0.2)
        assert admin.execute(SESSIONS, [migrated_database]).rowcount == 1
        rival.execute("ROLLBACK")
        assert [answer(future.result()) for future in answers] == [READY] * 8
        # And a hundred right after them none: the session has done nothing since.
        before = admin.execute(SESSIONS, [migrated_database]).fetchall()
        assert [answer(response) for response in threads.map(ask, ["/readyz"] * 100)] == [READY] * 100
        assert admin.execute(SESSIONS, [migrated_database]).fetchall() == before


# Metrics


def test_metrics_without_a_token_are_no_page(ask):
    response = ask("/metrics", Authorization="Bearer ")
    assert (response.status_code, response.content) == (404, b"Not Found\n")


@pytest.mark.parametrize("given", ["", TOKEN, "Bearer ", f"Bearer {TOKEN}x", "Bearer é", f"Basic {TOKEN}"])
def test_metrics_are_for_who_knows_the_token(ask, settings, given):
    settings.METRICS_TOKEN = TOKEN
    response = ask("/metrics", Authorization=given)
    assert (response.status_code, response["WWW-Authenticate"]) == (401, 'Bearer realm="metrics"')


def test_metrics(ask, admin, settings):
    settings.METRICS_TOKEN = TOKEN
    admin.execute("CREATE INDEX unordered ON users (name)")
    response = ask("/metrics", Authorization=f"Bearer {TOKEN}")
    assert response["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    lines = response.content.decode().splitlines()
    assert 'keyhub_dbhealth_findings{database="default",severity="warning"} 1' in lines
    assert lines[-1] == "# EOF"
    admin.execute("DROP INDEX unordered")
    assert ask("/metrics", Authorization=f"Bearer {TOKEN}").content == response.content


def test_metrics_of_no_database(process, settings):
    settings.METRICS_TOKEN = TOKEN
    response = process(NOWHERE)("/metrics", Authorization=f"Bearer {TOKEN}")
    assert (response.status_code, response.content) == (503, b"The database cannot be asked.\n")
