"""How long writers wait while organizations and console sessions move into another database: splitadmin, and by dump.

    .venv/bin/python -m benchmarks.splitadmin [rows]

The tenant database has `rows` (300,000) console sessions of 10,000 organizations, the Admin database is on a server of
its own. Four writers begin console sessions as fast as they can, and go to the other database when they are told that
the rows are there (SQLSTATE KH001). Told: the longest time of any write, the seconds of the whole, and whether every
row that was acknowledged is there once. The peer is what one does by hand: writers stopped, pg_dump of the three tables
into psql, writers let go on in the other database. All in one run.
"""

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from benchmarks.server import own_server
from keyhub.embedded import EmbeddedServer

REPOSITORY = Path(__file__).parent.parent
WRITERS = 4
MOVED = "KH001"
TABLES = ("organizations", "organization_domains", "console_sessions")
LOAD = """
    INSERT INTO organizations (id, name, slug)
        SELECT 'ORG-' || n, 'N' || n, 'n' || n FROM generate_series(1, 10000) AS n;
    INSERT INTO organization_domains (organization_id, domain)
        SELECT 'ORG-' || n, 'n' || n || '.example' FROM generate_series(1, 10000) AS n;
    INSERT INTO console_sessions (session_id, organization_id, expires_at)
        SELECT encode(sha256(uuid_send(gen_random_uuid())), 'hex'), 'ORG-' || (n % 10000 + 1), 'tomorrow'
        FROM generate_series(1, {rows}) AS n;
    ANALYZE;
"""
BEGIN = """
    INSERT INTO console_sessions (id, session_id, organization_id, expires_at)
    VALUES (%s, encode(sha256(uuid_send(gen_random_uuid())), 'hex'), 'ORG-1', statement_timestamp() + interval '1 day')
"""


@dataclass
class Writers:
    """What the writers were told is written, and the longest time of a write, in seconds."""

    servers: tuple[EmbeddedServer, EmbeddedServer]
    acknowledged: set[str] = field(default_factory=set)
    longest_s: float = 0
    home: int = 0
    under_way: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(WRITERS))
    stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator["Writers"]:
        threads = [threading.Thread(target=self._write) for _ in range(WRITERS)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()

    def _write(self) -> None:
        with ExitStack() as stack:
            sessions = [stack.enter_context(server.connect("keyhub", "keyhub")) for server in self.servers]
            while not self.stop.is_set():
                row, started_at = str(uuid.uuid4()), time.monotonic()
                with self.under_way:
                    self._begin(sessions, row)
                self.acknowledged.add(row)
                self.longest_s = max(self.longest_s, time.monotonic() - started_at)

    def _begin(self, sessions: list[psycopg.Connection], row: str) -> None:
        while True:
            home = self.home
            try:
                sessions[home].execute(BEGIN, [row])
                return
            except psycopg.DatabaseError as error:
                if error.sqlstate != MOVED:
                    raise
                self.home = 1 - home

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Writers wait, and none is in the middle of a write."""
        for _ in range(WRITERS):
            self.under_way.acquire()
        yield
        for _ in range(WRITERS):
            self.under_way.release()


def manage(environment: dict, *arguments: str) -> None:
    command = [sys.executable, "manage.py", *arguments]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True)


def by_splitadmin(writers: Writers, environment: dict) -> None:
    manage(environment, "splitadmin")


def by_dump(writers: Writers, environment: dict) -> None:
    tenant, admin = writers.servers
    manage(
        environment | {"DATABASE_URL": environment["ADMIN_DATABASE_URL"], "ADMIN_DATABASE_URL": ""}, "migrate", "-v0"
    )
    with admin.connect("keyhub") as own:
        own.execute(f"TRUNCATE {', '.join(TABLES)}, tenants CASCADE")
    arguments = ["-h", str(tenant.socket_directory), "-U", "postgres", "keyhub", "--data-only", "--disable-triggers"]
    tables = [word for table in TABLES for word in ("-t", table)]
    into = ["-h", str(admin.socket_directory), "-U", "postgres", "-q", "-o", os.devnull, "keyhub"]
    with writers.stopped():
        with subprocess.Popen([tenant.program("pg_dump"), *arguments, *tables], stdout=subprocess.PIPE) as dump:
            subprocess.run([admin.program("psql"), *into], stdin=dump.stdout, check=True)
        writers.home = 1


def measure(rows: int, move: Callable[[Writers, dict], None]) -> tuple[float, float, int]:
    """The seconds of the move, the longest time of a write, and how many rows were acknowledged meanwhile."""
    with own_server() as (tenant, _), own_server() as (admin, _):
        environment = {
            **os.environ, "DEBUG": "on",
            "DATABASE_URL": f"embedded://{tenant.folder}", "ADMIN_DATABASE_URL": f"embedded://{admin.folder}",
        }  # fmt: skip
        manage(environment | {"ADMIN_DATABASE_URL": ""}, "migrate", "-v0")
        with tenant.connect("keyhub", "keyhub") as own:
            own.execute(LOAD.format(rows=rows))
        with Writers((tenant, admin)).at_work() as writers:
            time.sleep(2)
            started_at = time.monotonic()
            move(writers, environment)
            took_s = time.monotonic() - started_at
            time.sleep(2)
        with admin.connect("keyhub") as own:
            found = {
                str(row) for (row,) in own.execute("SELECT id FROM console_sessions WHERE organization_id = 'ORG-1'")
            }
            total = own.execute("SELECT count(*) FROM console_sessions").fetchone()[0]
        assert writers.acknowledged <= found
        assert total == rows + len(writers.acknowledged)
        return took_s, writers.longest_s, len(writers.acknowledged)


def main(rows: int = 300_000) -> None:
    print(f"{rows} console sessions, {WRITERS} writers")
    longest = {}
    for name, move in (("splitadmin", by_splitadmin), ("stop, pg_dump | psql, go on", by_dump)):
        took_s, longest[name], written = measure(rows, move)
        print(
            f"{name}: {took_s:.1f} s, longest write {longest[name] * 1000:.0f} ms, {written} rows written meanwhile, "
            "each there once"
        )
    ours, peers = longest.values()
    print(f"writers wait {peers / ours:.0f} times as long for the dump; the limit of splitadmin is 1000 ms")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
