"""The site behind a PgBouncer in transaction mode, with fewer sessions than clients; commands beside it."""

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.contrib import admin as django_admin
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse
from psycopg import errors

from audit.models import AuditLog
from auth_sessions.models import Session
from keyhub import pooling
from keyhub.database_url import database_from_url
from keyhub.embedded import EmbeddedServer
from keyhub.probes.middleware import Probes
from tenancy.join_codes import ExhaustedCodeError
from tenancy.models import Tenant, TenantJoinCode, TenantMembership
from tests.conftest import connected_by, database_url
from tests.factories import OperatorFactory, TenantFactory, TenantJoinCodeFactory, UserFactory
from tests.pooler import Pooler, needs_pgbouncer, pgbouncer
from tests.site import scene
from tests.test_primary import IN_TIME

POOLER, DIRECT = "postgres://keyhub@pooler:6432/keyhub", "postgres://keyhub@h1,h2/keyhub"
SESSIONS, CLIENTS = 3, 8


# Which way


def entry(*arguments: str, url: str = POOLER, direct_url: str = DIRECT) -> dict:
    return pooling.entry("DATABASE_URL", url, direct_url, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "host"),
    [
        (["/srv/keyhub/manage.py", "migrate"], "h1,h2"),
        (["manage.py"], "h1,h2"),
        (["/usr/bin/django-admin", "dbhealth"], "h1,h2"),
        (["/lib/django/__main__.py", "dbbackup"], "h1,h2"),
        (["manage.py", "runserver", "8000"], "pooler"),
        (["/usr/bin/gunicorn"], "pooler"),
        (["/lib/gunicorn/__main__.py"], "pooler"),
        (["worker.py", "migrate"], "pooler"),
        ([""], "pooler"),
        ([], "pooler"),  # of a program that Python is a part of
    ],
)
def test_commands_go_to_the_server_itself(arguments, host):
    assert entry(*arguments)["HOST"] == host
    assert entry(*arguments, direct_url="")["HOST"] == "pooler"


def test_what_transaction_mode_needs():
    assert entry("gunicorn") == {
        "ENGINE": "keyhub.primary",
        "NAME": "keyhub",
        "USER": "keyhub",
        "PASSWORD": "",
        "HOST": "pooler",
        "PORT": "6432",
        "OPTIONS": {"application_name": "keyhub", **IN_TIME},
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }
    assert "DISABLE_SERVER_SIDE_CURSORS" not in entry("manage.py", "migrate")
    # Any of several poolers will do.
    assert "target_session_attrs" not in entry("gunicorn", url="postgres://p1,p2/keyhub")["OPTIONS"]
    assert entry("manage.py", "migrate")["OPTIONS"]["target_session_attrs"] == "read-write"


@pytest.mark.parametrize("arguments", [["gunicorn"], ["manage.py", "migrate"]])
@pytest.mark.parametrize(
    ("urls", "sentence"),
    [
        (
            {"url": f"{POOLER}?target_session_attrs=read-write"},
            "DATABASE_URL names a pooler, and has target_session_attrs, which a pooler answers with what its server "
            "was long ago. Leave it out, and let the pooler lead to the primary.",
        ),
        (
            {"direct_url": "postgres://h1:5432"},
            "DIRECT_DATABASE_URL names no database. Set it to postgres://user:password@host:5432/database or, in "
            "development, embedded:///absolute/folder.",
        ),
    ],
)
def test_refused(arguments, urls, sentence):
    with pytest.raises(ImproperlyConfigured) as excinfo:
        entry(*arguments, **urls)
    assert str(excinfo.value) == sentence


def test_another_database_has_its_own_variables():
    with pytest.raises(ImproperlyConfigured, match=r"^ADMIN_DIRECT_DATABASE_URL is no URL\."):
        pooling.entry("ADMIN_DATABASE_URL", POOLER, "nowhere", ["gunicorn"])


# Behind PgBouncer


@pytest.fixture
def pooler(server, migrated_database) -> Iterator[Pooler]:
    with (
        server.connect(migrated_database) as admin,
        pgbouncer(server, "transaction", default_pool_size=SESSIONS) as pooler,
    ):
        # What the sessions of others are: those of the site must not give them its own, nor take theirs.
        admin.execute(f"ALTER DATABASE {migrated_database} SET timezone = 'Asia/Tokyo'")
        yield pooler


@pytest.fixture
def site(pooler, migrated_database, django_db_blocker) -> Iterator[None]:
    """The connections of a process of the site."""
    database = pooling.through_a_pooler(database_from_url(pooler.url(migrated_database)))
    with django_db_blocker.unblock(), connected_by({**database, "CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}):
        yield


def by_clients(work: Callable[[int], object]) -> list:
    """What each of them is answered, all at once, each on a connection of its own."""

    def client(number: int) -> object:
        try:
            return work(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(CLIENTS) as threads:
        return list(threads.map(client, range(CLIENTS)))


LEFT_BEHIND = """
    SELECT 'setting ' || name FROM pg_settings
    WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone')
    UNION ALL SELECT 'lock ' || objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
    UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE is_holdable
    UNION ALL SELECT 'statement ' || name FROM pg_prepared_statements
    UNION ALL SELECT 'channel ' || name FROM pg_listening_channels() AS name
    UNION ALL SELECT 'table ' || relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'
"""


def left_behind(pooler: Pooler, database: str) -> list[str]:
    """What sessions of the pool were given by who had them before: as many clients as there are look into them."""
    clients = [psycopg.connect(pooler.url(database)) for _ in range(SESSIONS)]
    try:
        # In a transaction, which keeps the session.
        assert len({client.execute("SELECT pg_backend_pid()").fetchone() for client in clients}) == SESSIONS
        assert [client.execute("SHOW TimeZone").fetchone() for client in clients] == [("Asia/Tokyo",)] * SESSIONS
        return [found for client in clients for (found,) in client.execute(LEFT_BEHIND)]
    finally:
        for client in clients:
            client.close()


@needs_pgbouncer
@pytest.mark.once
def test_what_is_left_behind_is_found(pooler, migrated_database):
    with psycopg.connect(pooler.url(migrated_database), autocommit=True) as client:
        for statement in (
            "SET lock_timeout = 1", "SELECT pg_advisory_lock(7)", "PREPARE question AS SELECT 1", "LISTEN news",
            "CREATE TEMP TABLE notes ()", "DECLARE rows CURSOR WITH HOLD FOR SELECT 1",
        ):  # fmt: skip
            client.execute(statement)
    assert sorted(left_behind(pooler, migrated_database)) == [
        "channel news", "cursor rows", "lock 7", "setting lock_timeout", "statement question", "table notes",
    ]  # fmt: skip


@needs_pgbouncer
@pytest.mark.once
def test_every_page(site, pooler, migrated_database):
    shown = scene.build()
    models = [model for model in django_admin.site._registry if model.objects.exists()]
    assert len(models) > CLIENTS

    def visit(number: int) -> Counter:
        client = Client()
        client.force_login(shown.operator)
        addresses = [reverse("admin:index")]
        for model in models[number::CLIENTS]:
            name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
            addresses += [reverse(f"{name}_changelist"), reverse(f"{name}_change", args=[model.objects.first().pk])]
        return Counter(client.get(address).status_code for address in addresses)

    assert sum(by_clients(visit), Counter()) == {200: CLIENTS + 2 * len(models)}
    assert left_behind(pooler, migrated_database) == []


@needs_pgbouncer
@pytest.mark.once
def test_operations_and_downloads(site, pooler, migrated_database):
    olivia = OperatorFactory(email="olivia@keyhub.test", is_superuser=True)
    codes = [TenantJoinCodeFactory() for _ in range(CLIENTS)]

    def operate(number: int) -> tuple[list[str], list[bool]]:
        """What the page says when a code was revoked, and whether both downloads of the audit log tell of it."""
        client = Client()
        client.force_login(olivia)
        page = reverse("admin:tenancy_tenantjoincode_operation", args=[codes[number].pk, "revoke"])
        answer = client.post(page, {"confirmed": "yes"}, follow=True)
        files = [client.get(reverse("admin:audit_auditlog_download", args=[kind])) for kind in ("csv", "jsonl")]
        texts = [b"".join(file.streaming_content).decode() for file in files]
        return [str(message) for message in answer.context["messages"]], [
            str(codes[number].pk) in text for text in texts
        ]

    assert by_clients(operate) == [(["Revoked: 1 of 1."], [True, True])] * CLIENTS
    assert TenantJoinCode.objects.filter(pk__in=[code.pk for code in codes], revoked_at=None).count() == 0
    assert AuditLog.objects.filter(action="tenant_join_code.revoke", actor_label=olivia.email).count() == CLIENTS
    assert left_behind(pooler, migrated_database) == []


@needs_pgbouncer
def test_a_code_is_not_oversold(site, pooler, migrated_database):
    code = TenantJoinCode.objects.issue(tenant=TenantFactory(), max_uses=11)
    users = [[UserFactory() for _ in range(4)] for _ in range(CLIENTS)]

    def redeem(number: int) -> int:
        admitted = 0
        for user in users[number]:
            try:
                with transaction.atomic():
                    membership = TenantJoinCode.objects.redeem(code.code, user)
                    Session.objects.start(user, membership=membership)
                    AuditLog.objects.record("user.login", "session", organization_id="o", user=user)
                admitted += 1
            except ExhaustedCodeError:
                pass
        return admitted

    assert sum(by_clients(redeem)) == 11
    code.refresh_from_db()
    assert (code.used_count, TenantMembership.objects.filter(tenant=code.tenant).count()) == (11, 11)
    assert (Session.objects.count(), AuditLog.objects.filter(action="user.login").count()) == (11, 11)
    assert left_behind(pooler, migrated_database) == []


@needs_pgbouncer
def test_events_come_in_many_and_go_out_in_order(site, pooler, migrated_database):
    def ingest(number: int) -> int:
        events = [{"action": f"a-{number}-{n}", "resource_type": "r", "organization_id": "o"} for n in range(500)]
        return AuditLog.objects.ingest(events)

    assert by_clients(ingest) == [500] * CLIENTS
    exported, since = [], None
    while (export := AuditLog.objects.export(since, rows=700)).rows:
        exported += [row.action for row in export.rows]
        since = export.next
    assert sorted(exported) == sorted(f"a-{number}-{n}" for number in range(CLIENTS) for n in range(500))
    assert left_behind(pooler, migrated_database) == []


@needs_pgbouncer
def test_times_are_in_utc_whoever_had_the_session_before(site, pooler, migrated_database):
    def zone(number: int) -> set:
        with connection.cursor() as cursor:
            return {cursor.execute("SHOW TimeZone").fetchone() for _ in range(20)}

    assert by_clients(zone) == [{("UTC",)}] * CLIENTS


@needs_pgbouncer
@pytest.mark.once
def test_rows_are_read_without_a_cursor_on_the_server(site, pooler, migrated_database):
    """A cursor is one session's, and the next rows may be asked of another one."""
    TenantFactory.create_batch(3)
    rows = Tenant.objects.iterator(chunk_size=1)
    next(rows)
    url = pooler.url(migrated_database)
    with psycopg.connect(url, autocommit=True) as client, psycopg.connect(url) as rival:
        client.execute("DECLARE tenants CURSOR WITH HOLD FOR SELECT id FROM tenants")
        rival.execute("SELECT")  # in a transaction, by the session that has just come free
        with pytest.raises(errors.InvalidCursorName):
            client.execute("FETCH tenants")
        assert len(list(rows)) == 3


@needs_pgbouncer
@pytest.mark.once
def test_ready(site):
    probes = Probes(lambda request: HttpResponse())
    try:
        response = probes(RequestFactory().get("/readyz"))
        assert (response.status_code, response.content) == (200, b'{"status": "ready"}')
    finally:
        probes._readiness._examiner._close()


# Commands


@pytest.mark.once
def test_commands_need_no_pooler(manage, server, migrated_database, tmp_path):
    nobody = "postgres://keyhub@127.0.0.1:1/keyhub"
    urls = {"DATABASE_URL": nobody, "DIRECT_DATABASE_URL": database_url(server, migrated_database)}
    for command in ("migrate", "auditpartitions", "dbhealth"):
        result = manage(command, **urls)
        assert result.returncode == 0, result.stderr
    result = manage("dbbackup", BACKUP_URL=f"file://{tmp_path}", **urls)
    assert result.returncode == 0, result.stderr
    result = manage("runserver", "--noreload", "127.0.0.1:0", **urls)
    assert (result.returncode, result.stderr) == (
        3,
        'keyhub: the database cannot be reached: connection failed: connection to server at "127.0.0.1", port 1 '
        "failed: Connection refused Is the server running on that host and accepting TCP/IP connections?\n",
    )


@needs_pgbouncer
@pytest.mark.once
def test_a_pooler_whose_server_is_gone(manage, server, tmp_path):
    shutil.chown(tmp_path, server.folder.owner())
    with pgbouncer(EmbeddedServer(tmp_path), "session", query_wait_timeout=1, server_login_retry=1) as pooler:
        result = manage("check", "--database", "default", DATABASE_URL=pooler.url("keyhub"))
    assert result.returncode == 3
    assert re.fullmatch(r"keyhub: the database cannot be reached: .+\n", result.stderr)
