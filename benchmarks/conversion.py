"""How long writers of the audit log wait while it is converted, and while rows leave its DEFAULT partition.

    .venv/bin/python -m benchmarks.conversion [rows]

On an embedded server of its own, all in one run. Two processes write single rows as fast as they can, each in a
transaction of its own. Told are the longest wait of any for a lock, by the server's log, and the longest time of any
row at all; beside these, of the time in which 500,000 rows are copied by one plain INSERT into a table that nobody
uses: what the machine itself makes writers wait.

1. adoption: a plain audit_logs of the source design with `rows` (5,000,000) rows over two years becomes the partitioned
   one, by `manage.py migrate --adopt`. Rows are compared by a digest before and after, written ones are counted
2. a fifth as many rows in DEFAULT, into which the writers write as well, are moved into their months: by
   `manage.py auditpartitions`, and by DELETE … RETURNING, INSERT and ATTACH in one transaction for each month, which is
   the way of pg_partman and was KeyHub's
"""

import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from benchmarks.server import own_server
from keyhub.embedded import EmbeddedServer
from tests.adopt import golang_migrate

REPOSITORY = Path(__file__).parent.parent
WRITERS = 2
LOGGED_FROM_MS = 10
COPIED_BESIDE = 500_000
LOCK_WAIT = re.compile(r"process (\d+) acquired .* after ([\d.]+) ms")
SOURCE_COLUMNS = (
    "id, organization_id, tenant_id, user_id, action, resource_type, resource_id, details, ip_address, user_agent, "
    "created_at"
)
ROWS = """
    INSERT INTO audit_logs (organization_id, action, resource_type, resource_id, details, ip_address, user_agent,
        created_at)
    SELECT 'ORG-' || n % 20, (ARRAY['user.login', 'user.logout', 'member.join', 'group.move'])[n % 4 + 1], 'session',
        n::text, '{{"method": "oauth", "n": 17}}', '203.0.113.7', 'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko',
        {moment}
    FROM generate_series({first}, {last}) AS n
"""
TWO_YEARS = "statement_timestamp() - random() * interval '730 days'"
THREE_OLD_MONTHS = "'2015-02-01 00:00:00+00'::timestamptz + random() * interval '85 days'"
INDEXES = """
    SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid)
    FROM pg_index WHERE indrelid = 'audit_logs'::regclass AND NOT indisprimary
"""
DIGEST = f"""
    SELECT count(*), sum(hashtextextended(({SOURCE_COLUMNS})::text, 0)::numeric)
    FROM audit_logs WHERE resource_type = 'session'
"""
WRITE = (
    "INSERT INTO audit_logs (organization_id, action, resource_type, resource_id, created_at) "
    "VALUES ('ORG-1', 'user.login', 'written', %s, {moment})"
)


@dataclass
class Waits:
    """What the writers waited in ms, and the rows that were acknowledged."""

    pid: int = 0
    longest_lock_ms: float = 0.0
    longest_ms: float = 0.0
    over_50_ms: int = 0
    rows: int = 0
    refused: int = 0
    seconds: float = 0.0
    late: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.seconds:6.1f} s, longest wait for a lock {self.longest_lock_ms:7.1f} ms (0: less than "
            f"{LOGGED_FROM_MS}), longest time of a row {self.longest_ms:7.1f} ms, {self.over_50_ms} of "
            f"{self.rows + self.refused:,} over 50 ms, {self.refused} refused"
        )


def write(address: str, number: int, moments: list[str], stop, results) -> None:
    """A process that writes until it is told to stop."""
    waits = Waits()
    with psycopg.connect(address, autocommit=True) as client:
        client.prepare_threshold = None
        waits.pid = client.info.backend_pid
        statements = [WRITE.format(moment=moment) for moment in moments]
        turn = 0
        while not stop.is_set():
            turn += 1
            started = time.perf_counter()
            try:
                client.execute(statements[turn % len(statements)], [f"{number}:{turn}"])
                waits.rows += 1
            except psycopg.errors.CheckViolation:
                waits.refused += 1
            waited_ms = (time.perf_counter() - started) * 1000
            waits.longest_ms = max(waits.longest_ms, waited_ms)
            if waited_ms > 50:
                waits.over_50_ms += 1
                waits.late.append(f"{waited_ms:.0f} ms until {time.strftime('%H:%M:%S')}")
    results.put(waits)


def log_lock_waits(server: EmbeddedServer) -> None:
    """Let the server's log tell of waits for locks, for writers()."""
    with server.connect() as admin:
        admin.execute("ALTER SYSTEM SET log_lock_waits = on")
        admin.execute(f"ALTER SYSTEM SET deadlock_timeout = {LOGGED_FROM_MS}")
        admin.execute("SELECT pg_reload_conf()")


@contextmanager
def writers(server: EmbeddedServer, address: str, *moments: str) -> Iterator[Waits]:
    """Let writers work while the block runs; what they waited stands in the result afterwards."""
    log = server.log_file
    log_start = log.stat().st_size
    context = multiprocessing.get_context("spawn")
    stop, results = context.Event(), context.Queue()
    processes = [
        context.Process(target=write, args=(address, number, list(moments), stop, results)) for number in range(WRITERS)
    ]
    for process in processes:
        process.start()
    time.sleep(2)
    total, started = Waits(), time.perf_counter()
    try:
        yield total
    finally:
        total.seconds = time.perf_counter() - started
        time.sleep(1)
        stop.set()
        for _ in processes:
            waits = results.get()
            for pid, waited_ms in LOCK_WAIT.findall(log.read_bytes()[log_start:].decode(errors="replace")):
                if int(pid) == waits.pid:
                    total.longest_lock_ms = max(total.longest_lock_ms, float(waited_ms))
            total.longest_ms = max(total.longest_ms, waits.longest_ms)
            total.over_50_ms += waits.over_50_ms
            total.rows += waits.rows
            total.refused += waits.refused
            total.late += waits.late
        for process in processes:
            process.join()


class Database:
    """The database `work` of the server, made anew."""

    def __init__(self, server: EmbeddedServer):
        self.server = server
        self.address = f"postgres:///work?host={server.socket_directory}&user=keyhub"
        with server.connect() as admin:
            admin.execute("DROP DATABASE IF EXISTS work WITH (FORCE)")
            admin.execute("CREATE DATABASE work OWNER keyhub")

    def manage(self, *arguments: str) -> str:
        environment = {**os.environ, "DEBUG": "on", "DATABASE_URL": self.address}
        environment["DJANGO_SETTINGS_MODULE"] = "keyhub.settings"
        command = [sys.executable, "manage.py", *arguments]
        result = subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        return result.stdout

    def connect(self) -> psycopg.Connection:
        connection = self.server.connect("work", "keyhub")
        connection.execute("SET TimeZone = 'UTC'")
        return connection

    def fill(self, rows: int, moment: str) -> None:
        with self.connect() as client:
            # Without its indexes, which are built when the rows are there.
            indexes = client.execute(INDEXES).fetchall()
            for name, _ in indexes:
                client.execute(f"DROP INDEX {name}")
            for first in range(1, rows + 1, 500_000):
                client.execute(ROWS.format(moment=moment, first=first, last=min(first + 499_999, rows)))
                print(".", end="", file=sys.stderr, flush=True)
            for _, definition in indexes:
                client.execute(definition)
        print(file=sys.stderr)
        with self.server.connect("work") as admin:
            admin.execute("VACUUM (ANALYZE) audit_logs")
            admin.execute("CHECKPOINT")

    def copy_plainly(self) -> None:
        """Copy rows into a table of the same indexes that nobody uses, and drop it."""
        with self.connect() as client:
            client.execute("CREATE TABLE nobodys (LIKE audit_logs INCLUDING ALL)")
            client.execute(f"INSERT INTO nobodys SELECT * FROM audit_logs LIMIT {COPIED_BESIDE}")
            client.execute("DROP TABLE nobodys")


def adoption(server: EmbeddedServer, rows: int) -> None:
    database = Database(server)
    with database.connect() as client:
        golang_migrate.make(client, len(golang_migrate.FILES), with_rows=False)
    database.fill(rows, TWO_YEARS)
    with database.connect() as client:
        before = client.execute(DIGEST).fetchone()
    with writers(server, database.address, "DEFAULT") as beside:
        database.copy_plainly()
    with writers(server, database.address, "DEFAULT") as waits:
        database.manage("migrate", "--adopt")
        database.manage("migrate", "-v0")
    with database.connect() as client:
        assert client.execute(DIGEST).fetchone() == before
        (written,) = client.execute("SELECT count(*) FROM audit_logs WHERE resource_type = 'written'").fetchone()
        assert written == beside.rows + waits.rows
    print(f"adoption of {rows:,} rows: {waits}")
    print(f"{COPIED_BESIDE:,} rows, copied plainly: {beside}", flush=True)
    tell_late(waits)


def tell_late(waits: Waits) -> None:
    for late in waits.late[:20]:
        print(f"    {late}", file=sys.stderr)


def by_the_command(database: Database) -> None:
    database.manage("auditpartitions")


def in_one_transaction(database: Database) -> None:
    """A transaction for each month, as pg_partman moves the rows of an interval."""
    with database.connect() as client:
        for month in (2, 3, 4):
            name, first, end = (
                f"audit_logs_2015_{month:02}",
                f"2015-{month:02}-01 00:00+00",
                f"2015-{month + 1:02}-01 00:00+00",
            )
            with client.transaction():
                client.execute("LOCK TABLE audit_logs_default IN SHARE ROW EXCLUSIVE MODE")
                client.execute(f"CREATE TABLE {name} (LIKE audit_logs INCLUDING ALL)")
                client.execute("ALTER TABLE audit_logs_default DISABLE TRIGGER refuse_audit_logs_change")
                client.execute(
                    f"WITH moved AS (DELETE FROM audit_logs_default WHERE created_at >= '{first}' "
                    f"AND created_at < '{end}' RETURNING *) INSERT INTO {name} SELECT * FROM moved"
                )
                client.execute("ALTER TABLE audit_logs_default ENABLE TRIGGER refuse_audit_logs_change")
                client.execute(
                    f"ALTER TABLE audit_logs ATTACH PARTITION {name} FOR VALUES FROM ('{first}') TO ('{end}')"
                )


def out_of_default(server: EmbeddedServer, rows: int, way: Callable[[Database], None], name: str) -> None:
    database = Database(server)
    database.manage("migrate", "-v0")
    database.fill(rows, THREE_OLD_MONTHS)
    with database.connect() as client:
        before = client.execute(DIGEST).fetchone()
    with writers(server, database.address, "'2015-03-20 00:00:00+00'", "statement_timestamp()") as waits:
        way(database)
    with database.connect() as client:
        assert client.execute(DIGEST).fetchone() == before
        (written,) = client.execute("SELECT count(*) FROM audit_logs WHERE resource_type = 'written'").fetchone()
        assert written == waits.rows
        assert client.execute("SELECT count(*) FROM audit_logs_default").fetchone() == (0,)
    print(f"{rows:,} rows out of DEFAULT {name}: {waits}", flush=True)
    tell_late(waits)


def main(rows: int) -> None:
    with own_server() as (server, _):
        log_lock_waits(server)
        adoption(server, rows)
        out_of_default(server, rows // 5, by_the_command, "by auditpartitions")
        out_of_default(server, rows // 5, in_one_transaction, "in one transaction a month")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000)
