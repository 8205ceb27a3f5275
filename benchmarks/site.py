"""The operators' site at scale, beside Django's default admin on the same data.

    .venv/bin/python -m benchmarks.site [thousands of rows] [millions of audit rows] [requests]

On an embedded server of its own, which is populated first (benchmarks/site_rows.py): so many join codes, users,
identities, memberships and sessions (100,000 unless told), a fifth as many tenants, and so many millions of audit rows
of twelve months (1). Then each page is asked for by a superuser, in process, templates included, DEBUG off: once to
warm up, and `requests` (20) times. The peer (benchmarks/plain_admin.py) runs in a process of its own whose
INSTALLED_APPS lack django-unfold; what took more than five seconds is not asked again. A page is given up after a
minute of Python, five minutes of one query, or, of the peer, at 2 GB of memory.

Told are the time for which the page kept a core busy, in Python and in its backend of PostgreSQL, without parallel
workers, which on a machine with nothing else to do is the time that it takes (median); the time by the clock (median
and longest), the number of queries and the longest of them. No page of KeyHub may skip rows by OFFSET or count without
a limit: the benchmark fails there. Linux only: it reads /proc.
"""

import itertools
import json
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from uuid import UUID

from benchmarks.server import own_server
from benchmarks.site_rows import RARE_ACTION, RARE_ORGANIZATION, ROWS_PER_TENANT, populate, tell
from keyhub.embedded import EmbeddedServer

REPOSITORY = Path(__file__).parent.parent
BYTES_PER_AUDIT_ROW, BYTES_PER_ROW = 1_000, 2_500  # indexes and write-ahead log included
GIVEN_UP_AFTER_S, LONGEST_STATEMENT_S = 60, 300
MEMORY_BYTES = 2 * 10**9
NOT_AGAIN_AFTER_S = 5
PEER_REQUESTS = 5
PAGE_ROWS = 50
DOWNLOADED = (10_000, 100_000)
LONGEST_MS = 300
SOME = 1_711  # the number of whom is looked at: of a tenant, a user, a code


@dataclass(frozen=True)
class Page:
    """A page of both sites: the parameters of its address; None where Django's has no such thing."""

    name: str
    path: str  # a model's list, or a page
    ours: dict[str, object] = field(default_factory=dict)
    plain: dict[str, object] | None = field(default_factory=dict)
    prepare: Callable[[], object] = lambda: None


@dataclass
class Figures:
    name: str
    busy_ms: float = 0.0
    p50_ms: float = 0.0
    longest_ms: float = 0.0
    queries: int = 0
    longest_query_ms: float = 0.0
    rows: int | None = None
    given_up: str = ""

    def __str__(self) -> str:
        if not self.busy_ms:
            return f"{self.given_up} | |"
        busy = f"{self.busy_ms:,.0f}{', ' if self.given_up else ''}{self.given_up}"
        return f"{busy} | {self.p50_ms:,.0f}, {self.longest_ms:,.0f} | {self.queries}"


class GivenUpError(Exception):
    """It took too long."""


def main(thousands: int = 100, millions: float = 1.0, requests: int = 20) -> None:
    rows, audit_rows = thousands * 1_000, int(millions * 1_000_000)
    needed = rows * BYTES_PER_ROW + audit_rows * BYTES_PER_AUDIT_ROW
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed:
        sys.exit(f"This takes {needed / 1e9:.0f} GB where temporary files go, and {free / 1e9:.0f} GB are free.")
    with own_server() as (server, _folder):
        os.environ.update(environment_for(server))
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=REPOSITORY, check=True)
        started = time.perf_counter()
        with server.connect("keyhub", user="postgres") as superuser:
            populate(superuser, rows, audit_rows)
        tell("")
        print(
            f"{rows:,} rows of each table and {audit_rows:,} audit rows made in {time.perf_counter() - started:.0f} s"
        )
        compare(rows, requests)


def environment_for(server: EmbeddedServer) -> dict[str, str]:
    return {
        "DEBUG": "off", "SECRET_KEY": "s" * 60, "ALLOWED_HOSTS": "testserver",
        "DATABASE_URL": f"postgres:///keyhub?host={server.socket_directory}&user=keyhub",
    }  # fmt: skip


def compare(rows: int, requests: int) -> None:
    """Measure both, each in its process, and print the table."""
    ours, plain = (
        subprocess.run(
            [sys.executable, "-m", "benchmarks.site", site, str(rows), str(number)], cwd=REPOSITORY, check=True,
            stdout=subprocess.PIPE, text=True,
        ).stdout.splitlines()
        for site, number in (("keyhub", requests), ("plain", PEER_REQUESTS))
    )  # fmt: skip
    beside = {figures.name: figures for figures in (Figures(**json.loads(line)) for line in plain)}
    print("| page | KeyHub | clock | queries | the longest | Django's admin | clock | queries | times KeyHub |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    slow = []
    for line in ours:
        if not line.startswith("{"):
            print(f"\n{line}")
            continue
        own = Figures(**json.loads(line))
        peer = beside.get(own.name)
        ratio = "" if peer is None or peer.given_up else f"{peer.busy_ms / own.busy_ms:,.1f}"
        print(f"| {own.name} | {own} | {own.longest_query_ms:,.0f} | {peer or '| |'} | {ratio} |")
        slow += [own.name] if own.busy_ms > LONGEST_MS else []
    print(f"\nMore than {LONGEST_MS} ms: {', '.join(slow) or 'none'}")


# In a process of its own


def measure(site: str, rows: int, requests: int) -> None:
    prepare_django(site)
    client = signed_in()
    for page in pages(rows):
        parameters = page.ours if site == "keyhub" else page.plain
        if parameters is None:
            continue
        tell(f"{site}: {page.name}")
        figures = asked(client, page, page.path + query(parameters), requests, is_ours=site == "keyhub")
        print(json.dumps(asdict(figures)), flush=True)
    if site == "keyhub":
        download(client)
    tell("")


def prepare_django(site: str) -> None:
    import django
    from django.conf import settings

    from keyhub import settings as ours

    values = {name: getattr(ours, name) for name in dir(ours) if name.isupper()}
    options = values["DATABASES"]["default"].setdefault("OPTIONS", {})
    # What parallel workers do would be missing in busy_seconds().
    options["options"] = f"-c max_parallel_workers_per_gather=0 -c statement_timeout={LONGEST_STATEMENT_S}s"
    if site == "plain":
        apps = [app for app in ours.INSTALLED_APPS if not app.startswith(("unfold", "django.contrib.admin"))]
        # First: keyhub has templates for the admin. Simple: it looks for no admin.py of the apps.
        values["INSTALLED_APPS"] = ["django.contrib.admin.apps.SimpleAdminConfig", *apps]
        values["ROOT_URLCONF"] = "benchmarks.plain_admin"
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    settings.configure(**values)
    django.setup()


def signed_in():
    from django.test import Client

    from accounts.models import Operator

    operator, _ = Operator.objects.get_or_create(
        email="olivia@keyhub.test", defaults={"is_superuser": True, "password": "!"}
    )
    client = Client()
    client.force_login(operator, backend="django.contrib.auth.backends.ModelBackend")
    return client


def pages(rows: int) -> Iterator[Page]:
    """Of both sites, in the order of the table."""
    from django.core.cache import cache

    from audit.models import AuditLog

    tenants = rows // ROWS_PER_TENANT
    big_tenant, tenant, user = id_of("tenant", 1), id_of("tenant", SOME), id_of("user", SOME)
    email, part_of_email = f"person{SOME}@example-{SOME % 97}.com", f"person{SOME}"
    code = re.sub(r"(.{5})(.{5})", r"\1-\2-", digest(f"letters{SOME}")[:15].upper())
    part_of_name = digest(f"name{SOME}")
    at_scale = (
        ("join codes", "tenancy/tenantjoincode", rows),
        ("tenants", "tenancy/tenant", tenants),
        ("memberships", "tenancy/tenantmembership", rows),
        ("users", "accounts/user", rows),
        ("identities", "accounts/useridentity", rows),
        ("sessions", "auth_sessions/session", rows),
        ("audit log", "audit/auditlog", AuditLog.objects.count()),
    )
    for name, model, number in at_scale:
        middle = number // PAGE_ROWS // 2
        yield Page(f"{name}: first page", model)
        yield Page(f"{name}: page 2", model, {"after": (model, 1)}, {"p": 2})
        if middle > 1_000:
            yield Page(f"{name}: page 1,000", model, {"after": (model, 999)}, {"p": 1_000})
        yield Page(f"{name}: page {middle:,}, the middle", model, {"after": (model, middle - 1)}, {"p": middle})

    def both(name: str, model: str, **parameters) -> Page:
        return Page(name, model, parameters, parameters)

    codes = "tenancy/tenantjoincode"
    for state in ("active", "revoked", "expired", "exhausted"):
        yield both(f"join codes: {state}", codes, state=state)
    yield Page("join codes: expiring", codes, {"state": "expiring"}, None)
    yield both("join codes: revoked ones for viewers", codes, state="revoked", role__exact="viewer")
    yield both("join codes: of the large tenant", codes, tenant__id__exact=big_tenant)
    yield both("join codes: active ones of a tenant", codes, tenant__id__exact=tenant, state="active")
    yield Page("join codes: search, a code", codes, {"q": f"kh {code}"}, {"q": f"KH-{code}"})
    yield both("join codes: search, a part of one code", codes, q=code[2:9])
    yield both("join codes: search, a part of many tenants' names", codes, q="Laboratory")
    yield both("join codes: search, a part of nothing", codes, q="nothing of the kind")

    tenant_list = "tenancy/tenant"
    yield both("tenants: of an organization", tenant_list, organization_id="ORG-003")
    yield both("tenants: laboratories", tenant_list, tenant_type__exact="laboratory")
    yield both("tenants: default ones, of which there is none", tenant_list, is_default__exact=1)
    yield both("tenants: search, a slug", tenant_list, q=f"team-{SOME}")
    yield both("tenants: search, a part of one name", tenant_list, q=part_of_name[:6])
    yield Page("tenants: search, an id", tenant_list, {"q": tenant}, None)

    memberships = "tenancy/tenantmembership"
    yield both("memberships: admins", memberships, role__exact="admin")
    yield both("memberships: left", memberships, left_at__isempty=0)
    yield both(
        "memberships: of the large tenant, active", memberships, tenant__id__exact=big_tenant, left_at__isempty=1
    )
    yield both("memberships: of a user", memberships, user__id__exact=user)
    yield both("memberships: search, an e-mail", memberships, q=email)
    yield both("memberships: search, a part of few e-mails", memberships, q=part_of_email)

    users = "accounts/user"
    yield both("users: disabled", users, disabled_at__isempty=0)
    yield both("users: anonymized, of whom there is none", users, anonymized_at__isempty=0)
    yield both("users: search, an e-mail", users, q=email)
    yield both("users: search, a part of one name", users, q=part_of_name[:8])
    yield both("users: search, a part of many names", users, q="Person")
    yield both("users: search, a part of nothing", users, q="nothing of the kind")

    identities = "accounts/useridentity"
    yield Page("identities: search, a provider's id", identities, {"q": digest(f"sub{SOME}")}, None)
    yield both("identities: search, an e-mail", identities, q=email)
    yield both("identities: search, a part of few e-mails", identities, q=part_of_email)

    sessions = "auth_sessions/session"
    yield both("sessions: alive", sessions, state="alive")
    yield Page("sessions: revoked", sessions, {"state": "revoked"}, {"revoked__exact": 1})
    yield Page("sessions: expired", sessions, {"state": "expired"}, None)
    yield Page("sessions: of a user", sessions, {"user": user}, {"user__id__exact": user})
    yield Page("sessions: alive in the large tenant", sessions, {"tenant": big_tenant, "state": "alive"}, None)
    yield Page("sessions: alive in a tenant", sessions, {"tenant": tenant, "state": "alive"}, None)
    yield both("sessions: search, an e-mail", sessions, q=email)

    log = "audit/auditlog"
    today = datetime.now(UTC).date()
    month_ago = today - timedelta(days=30)

    def days(first, last) -> tuple[dict, dict]:
        return (
            {"created_at_from": first, "created_at_to": last},
            {"created_at__gte": f"{first} 00:00+00:00", "created_at__lt": f"{last + timedelta(days=1)} 00:00+00:00"},
        )

    yield both("audit log: of an organization", log, organization_id="ORG-003")
    yield both("audit log: of an organization with few old rows", log, organization_id=RARE_ORGANIZATION)
    yield both("audit log: a frequent action", log, action="user.login")
    yield both("audit log: a rare action", log, action=RARE_ACTION)
    yield both("audit log: of the large tenant", log, tenant_id=big_tenant)
    yield both("audit log: of a tenant", log, tenant_id=tenant)
    yield both("audit log: of a user", log, user_id=user)
    yield both("audit log: of a resource", log, resource_type="document", resource_id=SOME)
    yield Page("audit log: of a day, a month ago", log, *days(month_ago, month_ago))
    yield Page("audit log: of a year", log, *days(today - timedelta(days=365), today))
    yield both("audit log: denied", log, outcome__exact="denied")
    yield both("audit log: denied in an organization", log, outcome__exact="denied", organization_id="ORG-003")
    yield both("audit log: denied in a tenant", log, outcome__exact="denied", tenant_id=tenant)
    yield both("audit log: a rare action in an organization", log, action=RARE_ACTION, organization_id="ORG-003")
    ours, plain = days(month_ago, month_ago)
    denied = {"outcome__exact": "denied"}
    yield Page("audit log: denied, of a day", log, ours | denied, plain | denied)
    yield both("audit log: search, an action", log, q="document.read")
    yield both("audit log: search, what nobody does", log, q="document.eat")
    yield Page("audit log: search, a tenant's id", log, {"q": tenant}, None)
    yield Page("audit log: search, a resource", log, {"q": f"document {SOME}"}, None)

    yield Page("page of a tenant", f"tenancy/tenant/{tenant}/change")
    yield Page("page of the large tenant", f"tenancy/tenant/{big_tenant}/change")
    yield Page("page of a join code", f"tenancy/tenantjoincode/{id_of('code', SOME)}/change")
    yield Page("page of a user", f"accounts/user/{user}/change")
    yield Page("page of a session", f"auth_sessions/session/{id_of('session', SOME)}/change")
    yield Page("page of an audit row", f"audit/auditlog/{middle_row(log, 1_000).pk}/change")
    yield Page("start page, nothing kept", "", plain=None, prepare=cache.clear)
    yield Page("start page", "", plain=None)


def digest(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def id_of(kind: str, number: int) -> str:
    return str(UUID(digest(f"{kind}{number}")))


def query(parameters: dict[str, object]) -> str:
    from urllib.parse import urlencode

    values = dict(parameters)
    if isinstance(values.get("after"), tuple):
        values["after"] = cursor_behind(*values["after"])
    return f"/?{urlencode(values)}" if values else "/"


def cursor_behind(model: str, number: int) -> str:
    """The cursor by which a list is at its `number`th Next, as its last row then gives it."""
    from django.contrib import admin

    from audit.pages import Position
    from keyhub.admin.pages import Order

    row = middle_row(model, number * PAGE_ROWS - 1)
    if model == "audit/auditlog":
        return Position(row.created_at, row.pk).cursor
    return Order(type(row), admin.site.get_model_admin(type(row)).ordering).cursor_of(row)


def middle_row(model: str, number: int):
    from django.apps import apps

    rows = apps.get_model(*model.split("/")).objects
    ordering = {
        "tenancy/tenant": ("organization_id", "slug"),
        "tenancy/tenantmembership": ("tenant_id", "user_id"),
        "accounts/useridentity": ("provider", "provider_sub"),
        "auth_sessions/session": ("-expires_at", "-id"),
    }.get(model, ("-created_at", "-id"))
    return rows.order_by(*ordering)[number]


def asked(client, page: Page, address: str, requests: int, is_ours: bool) -> Figures:
    from django.db import DatabaseError, connection

    address = "/admin/" + address.lstrip("/")
    connection.ensure_connection()
    backend_pid = connection.connection.info.backend_pid
    times, busy, statements = [], [], []
    for number in range(requests + 1):
        page.prepare()
        statements.clear()
        busy_before, started = busy_seconds(backend_pid), time.perf_counter()
        try:
            with given_up_in_time(), connection.execute_wrapper(recorder(statements)):
                response = client.get(address, secure=True)
        except GivenUpError:
            return Figures(page.name, given_up=f"more than {GIVEN_UP_AFTER_S} s in Python")
        except DatabaseError:
            return Figures(page.name, given_up=f"more than {LONGEST_STATEMENT_S} s in one query")
        except MemoryError:
            return Figures(page.name, given_up=f"more than {MEMORY_BYTES // 10**9} GB of memory")
        seconds = time.perf_counter() - started
        assert response.status_code == 200, (address, response.status_code)
        if number or seconds > NOT_AGAIN_AFTER_S:
            times.append(seconds * 1_000)
            busy.append((busy_seconds(backend_pid) - busy_before) * 1_000)
        if seconds > NOT_AGAIN_AFTER_S:
            break
    if is_ours:
        refuse_unbounded(page, statements)
    listed = (getattr(response, "context_data", None) or {}).get("cl")
    was_given_up = getattr(listed, "was_given_up", False)
    return Figures(
        page.name,
        statistics.median(busy),
        statistics.median(times),
        max(times),
        len(statements),
        max((ms for _statement, ms in statements), default=0.0),
        None if listed is None else len(listed.result_list),
        "given up, and says so" if was_given_up else "",
    )


def busy_seconds(backend_pid: int) -> float:
    """For how long this process and its backend have had a core: https://docs.kernel.org/scheduler/sched-stats.html"""
    files = (Path(f"/proc/{process}/schedstat") for process in ("self", backend_pid))
    return sum(int(file.read_text().split()[0]) for file in files) / 10**9


def recorder(statements: list[tuple[str, float]]) -> Callable:
    """A wrapper that notes what was executed, and for how many ms."""

    def record(execute, sql, params, many, context):
        started = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            statements.append((sql, (time.perf_counter() - started) * 1_000))

    return record


def refuse_unbounded(page: Page, statements: list[tuple[str, float]]) -> None:
    from tests.site.statements import is_unbounded

    unbounded = [statement for statement, _ms in statements if is_unbounded(statement)]
    assert not unbounded, (page.name, unbounded)


@contextmanager
def given_up_in_time() -> Iterator[None]:
    def give_up(*_):
        raise GivenUpError

    signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, GIVEN_UP_AFTER_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def download(client) -> None:
    """Rows per second of a download as CSV, and the memory that the process takes more for it."""
    from django.db import connection

    from audit.models import AuditLog

    existing = AuditLog.objects.count()
    for number in (number for number in DOWNLOADED if number < existing):
        connection.ensure_connection()  # closing the response before has closed it
        backend_pid = connection.connection.info.backend_pid
        tell(f"keyhub: {number:,} rows as CSV")
        # https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html: 5 resets the peak of the memory.
        Path("/proc/self/clear_refs").write_text("5")
        before, busy_before, started = peak_kb(), busy_seconds(backend_pid), time.perf_counter()
        response = client.get("/admin/audit/auditlog/download/csv/", secure=True)
        for _line in itertools.islice(response.streaming_content, number):
            pass
        seconds, busy = time.perf_counter() - started, busy_seconds(backend_pid) - busy_before
        print(
            f"{number:,} rows as CSV: {number / busy:,.0f} rows per busy second, {number / seconds:,.0f} by the clock, "
            f"{(peak_kb() - before) / 1_000:.0f} MB more memory at their peak"
        )
        response.close()


def peak_kb() -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in ("keyhub", "plain"):
        measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        main(*(kind(number) for kind, number in zip((int, float, int), sys.argv[1:], strict=False)))
