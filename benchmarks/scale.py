"""What one machine holds: bytes of a row with its indexes, and how long an operation keeps a core of the server busy.

    .venv/bin/python -m benchmarks.scale [thousands of rows] [operations]

On an embedded server of its own with the rows of benchmarks/site_rows.py: so many of each table (100,000 unless told),
as many audit rows, a redemption for each membership, and as many audit rows again in a month of their own, written one
after the other as services do. Told are

1. bytes on disk for each row, of the table and of its indexes, beside their limit: the bytes of the columns alone
2. bytes for each row of what answers "who asks?": an index of sessions, one of users, and their rows
3. operations of services (5,000 of each) beside the bare statement by the same driver: how many keep a core of the
   server busy for a second, how many one of Python, and bytes of write-ahead log for each

Busy is what the kernel counts for this process and for its backend, so that other work on the machine changes it
little. What the server does besides, such as VACUUM and checkpoints, is not in it, and the log is without full page
images. Linux only: it reads /proc.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg

from audit.months import Month
from benchmarks.server import own_server
from benchmarks.site_rows import populate, tell

REPOSITORY = Path(__file__).parent.parent
TABLES = [
    "users", "user_identities", "tenants", "tenant_memberships", "tenant_join_codes", "tenant_join_code_redemptions",
    "sessions",
]  # fmt: skip
HOT = {"idx_sessions_session_id": "sessions", "sessions": "sessions", "users_pkey": "users", "users": "users"}
REDEMPTIONS = """
    INSERT INTO tenant_join_code_redemptions (join_code_id, membership_id, user_id)
    SELECT md5('code' || n)::uuid, md5('membership' || n)::uuid, md5('user' || n)::uuid
    FROM generate_series(1, {rows}) AS n
"""
# What a whole row takes begins with 24 bytes that are no column's.
ROWS_AND_COLUMNS = "SELECT count(*), avg(pg_column_size({table}.*)) - 24 FROM {table}"
ADDRESS = "203.0.113.7"
AGENT = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0"
LOOKUP = "SELECT * FROM sessions WHERE session_id = %s"
BARE_SESSION = """
    INSERT INTO sessions (session_id, user_id, expires_at, last_accessed_at, ip_address, user_agent)
    VALUES (%s, %s, statement_timestamp() + interval '12 hours', statement_timestamp(), %s, %s)
"""
BARE_EVENT = """
    INSERT INTO audit_logs (organization_id, user_id, actor_label, action, resource_type, resource_id, outcome, details,
        ip_address, user_agent)
    VALUES ('ORG-001', %s, %s, 'user.login', 'session', %s, 'success', '{"method": "oauth"}', %s, %s)
"""


def main(thousands: int, operations: int) -> None:
    rows = thousands * 1_000
    with own_server() as (server, _folder):
        os.environ.update(
            DEBUG="off", SECRET_KEY="s" * 60, ALLOWED_HOSTS="localhost", DJANGO_SETTINGS_MODULE="keyhub.settings",
            DATABASE_URL=f"postgres:///keyhub?host={server.socket_directory}&user=keyhub",
        )  # fmt: skip
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=REPOSITORY, check=True)
        import django

        django.setup()
        with server.connect("keyhub") as superuser:
            populate(superuser, rows, rows)
            superuser.execute(REDEMPTIONS.format(rows=rows))
            month = Month.of(datetime.now(UTC)).plus(1)
            write_a_month(month, rows)
            superuser.execute("VACUUM (ANALYZE)")
            tell("")
            print("| table | rows | bytes a row | of it its indexes | times its columns |")
            print("| --- | --- | --- | --- | --- |")
            for table in [*TABLES, Month.of(datetime.now(UTC)).plus(-1).partition, month.partition]:
                tell_size(superuser, table)
            tell_hot(superuser)
            superuser.execute("ALTER SYSTEM SET full_page_writes = off")
            superuser.execute("SELECT pg_reload_conf()")
            print("| operation | a server's core | Python's core | log | bare: a server's core | log | of the bare |")
            print("| --- | --- | --- | --- | --- | --- | --- |")
            for name, (ours, bare) in comparisons(operations).items():
                tell_cost(superuser, name, ours, bare, operations)


def person(number: int):
    """A user of benchmarks/site_rows.py."""
    from hashlib import md5

    from accounts.models import User

    digest = md5(f"user{number}".encode(), usedforsecurity=False).hexdigest()
    return User(id=UUID(digest), email=f"person{number}@example-{number % 97}.com")


def write_a_month(month: Month, rows: int) -> None:
    from audit.models import AuditLog

    def events() -> Iterator[dict]:
        for number in range(rows):
            yield {
                "action": "user.login", "resource_type": "session", "resource_id": number,
                "user": person(1 + number * 31 % rows), "organization_id": f"ORG-{number % 200:03}",
                "details": {"method": "oauth", "n": number}, "ip_address": ADDRESS, "user_agent": AGENT,
                "created_at": start + number * step,
            }  # fmt: skip

    start = datetime.fromisoformat(month.start)
    step = timedelta(days=28) / rows
    AuditLog.objects.ingest(events())


def tell_size(connection: psycopg.Connection, table: str) -> None:
    rows, columns = connection.execute(ROWS_AND_COLUMNS.format(table=table)).fetchone()
    heap, indexes = connection.execute(
        "SELECT pg_table_size(oid), pg_indexes_size(oid) FROM pg_class WHERE oid = %s::regclass", [table]
    ).fetchone()
    whole = (heap + indexes) / rows
    print(f"| {table} | {rows:,} | {whole:.0f} | {indexes / rows:.0f} | {whole / float(columns):.1f} |")


def tell_hot(connection: psycopg.Connection) -> None:
    print("\nBytes a row of what tells who asks:")
    for name, table in HOT.items():
        (size,) = connection.execute(f"SELECT pg_relation_size('{name}')::float / count(*) FROM {table}").fetchone()
        print(f"  {name:24} {size:5.0f}")
    print()


Operation = Callable[[int], object]


def comparisons(operations: int) -> dict[str, tuple[Operation, Operation]]:
    """KeyHub's operations, and the bare statement of each. A session is started before it is authenticated."""
    from django.conf import settings
    from django.db import connection

    from audit.models import AuditLog
    from auth_sessions.models import Session
    from auth_sessions.sessions import AUTHENTICATE, TOUCH_INTERVAL
    from auth_sessions.tokens import digest

    # One in two hundred is disabled.
    people = [person(number) for number in range(1, 2 * operations) if number % 200][:operations]
    tokens: list[str] = []

    def start(number: int) -> None:
        tokens.append(Session.objects.start(people[number], ip_address=ADDRESS, user_agent=AGENT)[1])

    def record(number: int) -> None:
        AuditLog.objects.record(
            "user.login", "session", number, organization_id="ORG-001", user=people[number],
            details={"method": "oauth"}, ip_address=ADDRESS, user_agent=AGENT,
        )  # fmt: skip

    def bare(statement: str, parameters: Callable[[int], list]) -> Operation:
        def execute(number: int) -> None:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters(number))
                if cursor.description:
                    cursor.fetchone()

        return execute

    def prepared(statement: str, parameters: Callable[[int], object]) -> Operation:
        """As services do that prepare their statements; Django's cursors cannot."""

        def execute(number: int) -> None:
            connection.connection.prepare_threshold = 0
            psycopg.Cursor(connection.connection).execute(statement, parameters(number)).fetchone()

        return execute

    def live(number: int) -> dict[str, object]:
        idle_for = settings.IDENTITY_SESSION_IDLE_TIMEOUT
        return {"session_id": digest(tokens[number]), "touched_every": TOUCH_INTERVAL, "idle_for": idle_for}

    return {
        "start a session": (
            start,
            bare(BARE_SESSION, lambda number: [digest(f"bare{number}"), people[number].pk, ADDRESS, AGENT]),
        ),
        "authenticate it": (
            lambda number: Session.objects.authenticate(tokens[number]),
            bare(LOOKUP, lambda number: [digest(tokens[number])]),
        ),
        "authenticate it, prepared": (
            prepared(AUTHENTICATE.format(columns="sessions.*"), live),
            prepared(LOOKUP, lambda number: [digest(tokens[number])]),
        ),
        "record an event": (
            record,
            bare(BARE_EVENT, lambda number: [people[number].pk, people[number].email, str(number), ADDRESS, AGENT]),
        ),
    }


def tell_cost(connection: psycopg.Connection, name: str, ours: Operation, bare: Operation, operations: int) -> None:
    server, python, log = cost(connection, ours, operations)
    bare_server, _python, bare_log = cost(connection, bare, operations)
    print(
        f"| {name} | {1 / server:,.0f} | {1 / python:,.0f} | {log:.0f} | {1 / bare_server:,.0f} | {bare_log:.0f} "
        f"| {bare_server / server:.2f} |"
    )


def cost(connection: psycopg.Connection, operation: Operation, operations: int) -> tuple[float, float, float]:
    """Seconds of a core of the server and of Python, and bytes of write-ahead log, of one operation."""
    from django.db import connection as clients

    clients.ensure_connection()
    processes = (clients.connection.info.backend_pid, "self")
    (position,) = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
    before = [busy_seconds(process) for process in processes]
    for number in range(operations):
        operation(number)
    server, python = (busy_seconds(process) - start for process, start in zip(processes, before, strict=True))
    (log,) = connection.execute("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", [position]).fetchone()
    return server / operations, python / operations, float(log) / operations


def busy_seconds(process: int | str) -> float:
    """For how long a process has had a core: https://docs.kernel.org/scheduler/sched-stats.html"""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 10**9


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    main(arguments[0] if arguments else 100, arguments[1] if len(arguments) > 1 else 5_000)
