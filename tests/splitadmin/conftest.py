"""The rows of both databases, and writers beside a move."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from keyhub.placement import ADMIN
from tests.processes import REPOSITORY
from tests.two_databases import TwoDatabases

TABLES = ("organizations", "organization_domains", "console_sessions")


class Acknowledged:
    """What writers were told is written."""

    def __init__(self):
        self.organizations: dict[str, str] = {}
        self.sessions: dict[str, str] = {}
        self.domains: dict[str, str] = {}
        self.tenants: dict[str, str] = {}
        self.longest_ms = 0.0
        self.writes = 0

    def add(self, line: str) -> None:
        what, row, value, took_ms = json.loads(line)
        getattr(self, f"{what}s")[row] = value
        self.longest_ms = max(self.longest_ms, took_ms)
        self.writes += 1

    def compare(self, databases: TwoDatabases, home: str) -> None:
        """Every acknowledged row is in its home, once and as it was told, and no other is."""
        with databases.connect(home) as there, databases.connect("default") as tenant:
            names = dict(there.execute("SELECT id, name FROM organizations WHERE id LIKE 'writer-%'").fetchall())
            assert names == self.organizations
            sessions = there.execute("SELECT id::text FROM console_sessions").fetchall()
            live = {row for row, value in self.sessions.items() if value == "begun"}
            assert len(sessions) == len(live)
            assert {row for (row,) in sessions} == live
            domains = dict(there.execute("SELECT domain, organization_id FROM organization_domains").fetchall())
            assert domains == self.domains
            tenants = "SELECT id::text, organization_id FROM tenants WHERE organization_id LIKE 'writer-%'"
            assert dict(tenant.execute(tenants).fetchall()) == self.tenants


@pytest.fixture
def writers(tmp_path) -> Callable:
    """`with writers(two_databases) as acknowledged: …`; at the end nobody writes any more."""

    @contextmanager
    def writing(databases: TwoDatabases) -> Iterator[Acknowledged]:
        acknowledged = Acknowledged()
        told = tmp_path / "acknowledged"
        with told.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.splitadmin.writers"], cwd=REPOSITORY, text=True,
                env={**os.environ, **databases.environment()}, stdout=output, stderr=subprocess.PIPE,
            )  # fmt: skip
        while not told.stat().st_size and process.poll() is None:
            time.sleep(0.02)
        try:
            yield acknowledged
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
            print(errors)  # noqa: T201 beside what else has failed
        assert (process.returncode, errors) == (0, "")
        for line in told.read_text().splitlines():
            acknowledged.add(line)

    return writing


@pytest.fixture
def digests() -> Callable[[TwoDatabases, str], dict]:
    """The rows of a database's three tables, by a digest of its own: told by PostgreSQL as text."""

    def digests(databases: TwoDatabases, alias: str) -> dict[str, tuple]:
        with databases.connect(alias) as own:
            return {
                table: own.execute(
                    f"SELECT count(*), md5(coalesce(string_agg(t::text, ',' ORDER BY id), '')) FROM {table} AS t"
                ).fetchone()
                for table in TABLES
            }

    return digests


OTHER = {ADMIN: "default", "default": ADMIN}
