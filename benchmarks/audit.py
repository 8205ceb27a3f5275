"""The audit log at scale: recording, ingesting, pages, seals, months that come and go.

    .venv/bin/python -m benchmarks.audit [millions of rows, ...]

On an embedded server of its own, all in one run:

1. a single record() beside the bare INSERT, by the same driver and by pgbench, eight clients
2. ingest() of 100,000 events beside psql's \\copy of the same rows
3. pages: the latest 50 rows of an organization, a tenant and a resource, of one that has rows in few months, and a page
   deep in history; with 1, 10 and 50 million rows (or those given) over two years. The partitions are unlogged, which
   shortens their making and changes nothing about reading
4. planning with 12, 60, 240 and 1,000 months: a page, beside one query without a span
5. export(), 1,000 rows at a time: all of the rows, and one that finds three new rows, with 24 and with 240 months; and
   of 200,000 rows that one transaction has just written
6. sealing and verifying 500,000 rows
7. months that are added, and a month of a million rows that is retired, beside DELETE of as many: how long, and the
   longest wait of two writers
"""

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from audit.months import Month, existing_partitions
from benchmarks.conversion import log_lock_waits, writers
from benchmarks.operations import run_clients, run_pgbench
from benchmarks.server import own_server
from keyhub.embedded import EmbeddedServer

REPOSITORY = Path(__file__).parent.parent
ORGANIZATIONS, TENANTS, RESOURCES = 20, 1_000, 5_000
MONTHS = 24
EXPORT_MONTHS = 240
INGESTED = 100_000
SEALED = 500_000
RETIRED = 1_000_000
PAGES = 200
ROWS = """
    INSERT INTO {table} (organization_id, tenant_id, user_id, actor_label, action, resource_type, resource_id,
        details, ip_address, user_agent, created_at, outcome)
    SELECT 'ORG-' || n % {organizations}, lpad(to_hex(n % {tenants}), 32, '0')::uuid,
        lpad(to_hex(n % 50000), 32, '0')::uuid, 'person' || n % 50000 || '@example.com',
        (ARRAY['user.login', 'user.logout', 'member.join', 'group.move'])[n % 4 + 1], 'session',
        (n % {resources})::text, '{{"method": "oauth", "n": 17}}', '203.0.113.7',
        'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101',
        timestamptz '{start}' + random() * (timestamptz '{end}' - timestamptz '{start}'), 'success'
    FROM generate_series(1, {rows}) AS n
"""
BARE = (
    "INSERT INTO audit_logs (organization_id, action, resource_type, resource_id, details, ip_address, user_agent, "
    "outcome) VALUES ('ORG-1', 'user.login', 'session', :n, '{\"method\": \"oauth\"}', '203.0.113.7', 'Mozilla/5.0', "
    "'success')"
)
MANY_MONTHS = """
DO $$
DECLARE
    month timestamp := date_trunc('month', statement_timestamp() AT TIME ZONE 'UTC') - interval '{from_month} months';
BEGIN
    FOR ago IN {from_month}..{to_month} LOOP
        EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF audit_logs FOR VALUES FROM (%L) TO (%L)',
            to_char(month, '"audit_logs_"YYYY_MM'), to_char(month, 'YYYY-MM-DD HH24:MI:SS+00'),
            to_char(month + interval '1 month', 'YYYY-MM-DD HH24:MI:SS+00'));
        month := month - interval '1 month';
    END LOOP;
END
$$
"""


def record_keyhub(number: int) -> None:
    """One of the clients of benchmarks.operations."""
    from audit.models import AuditLog

    AuditLog.objects.record(
        "user.login", "session", number, organization_id="ORG-1", details={"method": "oauth"},
        ip_address="203.0.113.7", user_agent="Mozilla/5.0",
    )  # fmt: skip


def record_bare(number: int) -> None:
    """The same, by the driver alone."""
    from django.db import connection

    connection.ensure_connection()
    connection.connection.execute(BARE.replace(":n", "%s"), [str(number)])


def main(millions: list[int]) -> None:
    with own_server() as (server, folder):
        os.environ.update(
            DEBUG="off", SECRET_KEY="s" * 60, ALLOWED_HOSTS="localhost", DJANGO_SETTINGS_MODULE="keyhub.settings",
            DATABASE_URL=f"postgres:///keyhub?host={server.socket_directory}&user=keyhub",
        )  # fmt: skip
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=REPOSITORY, check=True)
        import django

        django.setup()
        record(server, folder)
        ingest(server, folder)
        planning(server)
        for million in millions:
            load(server, million * 1_000_000)
            pages(million * 1_000_000)
            if million == millions[0]:
                exports(server)
                drop_months(server, Month.of(datetime.now(UTC)).plus(-MONTHS))
        seal(server)
        come_and_go(server, folder)


def execute(server: EmbeddedServer, statement: str, user: str = "keyhub") -> None:
    with server.connect("keyhub", user=user) as client:
        client.execute(statement)


def record(server: EmbeddedServer, folder: Path) -> None:
    rates: dict[str, list[int]] = {"record()": [], "driver": [], "pgbench": []}
    for _ in range(3):
        rates["record()"].append(run_clients("record_keyhub", "", 4, 0, module="benchmarks.audit"))
        rates["driver"].append(run_clients("record_bare", "", 4, 0, module="benchmarks.audit"))
        rates["pgbench"].append(run_pgbench(server, folder / "record.sql", BARE, 4, 0))
    ours, driver, bare = (statistics.median(values) / 4 for values in rates.values())
    print(
        f"record(), 8 clients: {ours:.0f} per second; the bare INSERT by the same driver {driver:.0f}: "
        f"{ours / driver:.2f}; by pgbench {bare:.0f}: {ours / bare:.2f}"
    )


def ingest(server: EmbeddedServer, folder: Path) -> None:
    from audit.models import AuditLog

    event = {
        "action": "user.login", "resource_type": "session", "organization_id": "ORG-1", "details": {"method": "oauth"},
        "ip_address": "203.0.113.7", "user_agent": "Mozilla/5.0",
    }  # fmt: skip
    columns = (
        "organization_id, action, resource_type, resource_id, details, ip_address, user_agent, created_at, outcome"
    )
    psql = [server.program("psql"), "-q", "-h", str(server.socket_directory), "-U", "keyhub", "keyhub", "-c"]
    file = folder / "rows"
    subprocess.run([*psql, f"\\copy (SELECT {columns} FROM audit_logs LIMIT {INGESTED}) TO {file}"], check=True)
    assert sum(1 for _ in file.open()) == INGESTED
    times: dict[str, list[float]] = {"ours": [], "psql": []}
    for _ in range(3):
        started = time.perf_counter()
        AuditLog.objects.ingest({**event, "resource_id": number} for number in range(INGESTED))
        times["ours"].append(time.perf_counter() - started)
        started = time.perf_counter()
        subprocess.run([*psql, f"\\copy audit_logs ({columns}) FROM {file}"], check=True)
        times["psql"].append(time.perf_counter() - started)
    ours, psql_s = (statistics.median(values) for values in times.values())
    print(f"ingest() of {INGESTED:,}: {ours:.2f} s, psql's \\copy {psql_s:.2f} s: {psql_s / ours:.2f} of its speed")


def months(server: EmbeddedServer, first: int, last: int) -> None:
    execute(server, "SET max_parallel_workers = 0; " + MANY_MONTHS.format(from_month=first, to_month=last))


def fill(server: EmbeddedServer, month: Month, rows: int, persistence: str = "") -> None:
    """A month with so many rows; its indexes are built when it is attached."""
    table = month.partition
    execute(
        server,
        f"CREATE {persistence} TABLE {table} (LIKE audit_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS);"
        + ROWS.format(
            table=table, start=month.start, end=month.end, rows=rows, organizations=ORGANIZATIONS, tenants=TENANTS,
            resources=RESOURCES,
        )
        + f"; ALTER TABLE {table} ADD CHECK (created_at >= '{month.start}' AND created_at < '{month.end}');"
        "SET maintenance_work_mem = '1GB';"
        f"ALTER TABLE audit_logs ATTACH PARTITION {table} FOR VALUES FROM ('{month.start}') TO ('{month.end}')",
    )  # fmt: skip


def drop_months(server: EmbeddedServer, before: Month) -> None:
    from django.db import connection

    for month, partition in existing_partitions(connection).items():
        if month < before:
            execute(server, f"DROP TABLE {partition}")


def load(server: EmbeddedServer, rows: int) -> None:
    """So many rows in the months before this one, in place of those of before."""
    this_month = Month.of(datetime.now(UTC))
    drop_months(server, this_month)
    for ago in range(1, MONTHS + 1):
        fill(server, this_month.plus(-ago), rows // MONTHS, "UNLOGGED")
        print(".", end="", file=sys.stderr, flush=True)
    execute(server, "VACUUM (ANALYZE) audit_logs", "postgres")
    execute(server, "CHECKPOINT", "postgres")
    print(file=sys.stderr)


def pages(rows: int) -> None:
    import uuid

    from audit.models import AuditLog
    from audit.pages import Position

    chance = random.Random(1)  # noqa: S311 the same rows in each run
    deep = Position(datetime.now(UTC) - timedelta(days=500), uuid.UUID(int=0)).cursor
    kinds: dict[str, Callable[[], object]] = {
        "organization": lambda: AuditLog.objects.filter(
            organization_id=f"ORG-{chance.randrange(ORGANIZATIONS)}"
        ).page(),
        "tenant": lambda: AuditLog.objects.filter(tenant_id=uuid.UUID(int=chance.randrange(TENANTS))).page(),
        "resource": lambda: AuditLog.objects.filter(
            resource_type="session", resource_id=str(chance.randrange(RESOURCES))
        ).page(),
        "tenant, 500 days ago": lambda: AuditLog.objects.filter(
            tenant_id=uuid.UUID(int=chance.randrange(TENANTS))
        ).page(deep),
        "nobody": lambda: AuditLog.objects.filter(tenant_id=uuid.uuid4()).page(),
    }
    print(f"pages of 50 with {rows:,} rows, p50 and p99 in ms:")
    for name, page in kinds.items():
        page()
        times = sorted(timed(page) for _ in range(PAGES))
        print(f"  {name:22} {times[PAGES // 2] * 1000:7.1f} {times[PAGES * 99 // 100] * 1000:7.1f}")


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def exports(server: EmbeddedServer) -> None:
    from audit.models import AuditLog

    for count in (MONTHS, EXPORT_MONTHS):
        months(server, 1, count)
        cursor = exported(f"all rows, {count} months", None)
        news = []
        for _ in range(50):
            for _ in range(3):
                record_keyhub(1)
            news.append(timed(lambda cursor=cursor: AuditLog.objects.export(cursor)))
            cursor = AuditLog.objects.export(cursor).next
        print(f"  three new rows, {count} months: p50 {statistics.median(news) * 1000:.1f} ms")
    event = {"action": "user.login", "resource_type": "session", "organization_id": "ORG-1"}
    AuditLog.objects.ingest({**event, "resource_id": number} for number in range(2 * INGESTED))
    exported(f"{2 * INGESTED:,} rows of one transaction, {EXPORT_MONTHS} months", cursor)


def exported(what: str, cursor: str | None) -> str:
    """Export until nothing is new; print how long each export took; the last cursor."""
    from audit.models import AuditLog

    times, rows = [], 0
    while True:
        started = time.perf_counter()
        export = AuditLog.objects.export(cursor)
        times.append(time.perf_counter() - started)
        rows, cursor = rows + len(export.rows), export.next
        if not export.rows:
            break
    total, times = sum(times), sorted(times)
    print(
        f"  export() of {what}: {rows:,} rows, {rows / total:,.0f} per second, p50 {times[len(times) // 2] * 1000:.1f} "
        f"ms, p99 {times[len(times) * 99 // 100] * 1000:.1f} ms"
    )
    return cursor


def planning(server: EmbeddedServer) -> None:
    import uuid

    from audit.models import AuditLog

    this_month = Month.of(datetime.now(UTC))
    for ago in range(1, 13):
        fill(server, this_month.plus(-ago), 50_000)
    execute(server, "VACUUM (ANALYZE) audit_logs", "postgres")
    existing = 12
    print("the latest 50 of a tenant by the number of months, ms of a page and of one query without a span:")
    for count in (12, 60, 240, 1_000):
        if count > existing:
            for first in range(existing + 1, count + 1, 100):
                months(server, first, min(first + 99, count))
            existing = count
        tenant = AuditLog.objects.filter(tenant_id=uuid.UUID(int=7))
        whole = tenant.order_by("-created_at", "-id")[:50]
        by_page = statistics.median(timed(tenant.page) for _ in range(20))
        by_query = statistics.median(timed(lambda whole=whole: list(whole.all())) for _ in range(20))
        print(f"  {count:5} months {by_page * 1000:7.1f} {by_query * 1000:7.1f}")


def seal(server: EmbeddedServer) -> None:
    from django.db import connection

    from audit import seals

    month = Month(1999, 5)
    execute(server, f"DROP TABLE IF EXISTS {month.partition}")
    fill(server, month, SEALED)
    digests: list[object] = []
    seconds = timed(lambda: digests.append(seals.digests_of(connection, month.partition)))
    count = timed(lambda: connection.cursor().execute(f"SELECT count(md5(p::text)) FROM {month.partition} AS p"))
    print(
        f"a month of {SEALED:,} rows sealed or verified: {seconds:.1f} s; its rows hashed by the server: {count:.1f} s"
    )


def come_and_go(server: EmbeddedServer, folder: Path) -> None:
    """Months that are added and retired under two writers, beside those that are only there."""
    oldest, next_oldest = Month(1930, 1), Month(1930, 2)
    for month in (oldest, next_oldest):
        fill(server, month, RETIRED)
    execute(server, "VACUUM (ANALYZE) audit_logs", "postgres")
    retention = (datetime.now(UTC).year - 1930) * 12 + datetime.now(UTC).month - 1 - 1
    archive = f"--archive=file://{folder}/archive"

    def manage(*arguments: str) -> None:
        command = [sys.executable, "manage.py", "auditpartitions", *arguments]
        subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)

    def delete() -> None:
        execute(
            server,
            f"ALTER TABLE {next_oldest.partition} DISABLE TRIGGER USER;"
            f"DELETE FROM audit_logs WHERE created_at >= '{next_oldest.start}' AND created_at < '{next_oldest.end}'",
            "postgres",
        )
        execute(server, f"VACUUM {next_oldest.partition}", "postgres")

    steps: dict[str, Callable[[], object]] = {
        "nothing, for 10 seconds": lambda: time.sleep(10),
        "twelve months added": lambda: manage("--ahead", "15"),
        f"a month of {RETIRED:,} rows sealed, archived, detached": lambda: manage(
            "retire", "--retention-months", str(retention), archive
        ),
        "it is dropped": lambda: manage("retire", "--retention-months", str(retention), "--grace-days", "0", archive),
        "as many rows deleted, and the space freed by VACUUM": delete,
    }
    log_lock_waits(server)
    for name, step in steps.items():
        with writers(server, os.environ["DATABASE_URL"], "statement_timestamp()") as waits:
            step()
        print(f"{name}: {waits}")


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]] or [1, 10, 50])
