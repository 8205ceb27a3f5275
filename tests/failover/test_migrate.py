"""The primary is killed in the middle of migrate: one sentence, and the next run goes on on the new primary."""

import os
import re
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import database_url
from tests.failover.pair import Pair
from tests.processes import Run
from tests.test_embedded import wait_for
from tests.test_migrate import recorded, running, sample, write_migration  # noqa: F401

pytestmark = [pytest.mark.database, pytest.mark.once]

# As the kill has found it: reading the answer, or sending the question.
GONE = r"keyhub: the database (cannot be reached|server cannot go on): .+\n"


@pytest.fixture
def database(servers, worker_id) -> str:
    """The name of an empty one on both servers."""
    name = f"migrated_{worker_id}"
    with servers.primary.connect() as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {name} OWNER keyhub")
    return name


@pytest.fixture
def migrate(servers, database, sample):  # noqa: F811
    environment = {
        **os.environ,
        "DATABASE_URL": servers.url(database),
        "DJANGO_SETTINGS_MODULE": "sample_settings",
        "PYTHONPATH": str(sample),
    }
    return lambda *arguments: Run("migrate", "sample", *arguments, cwd=sample, env=environment)


def killed_at(statement: str, run: Run, servers: Pair, client) -> None:
    """Kill the primary once the run is at a statement; the standby takes its place."""
    wait_for(lambda: running(client, statement))
    servers.kill_primary()
    result = run.completed()
    assert result.returncode == 3
    assert re.fullmatch(GONE, result.stderr), result.stderr
    servers.take_over()


def test_in_a_transaction(servers, database, migrate, sample: Path):  # noqa: F811
    slow = "SQL('SELECT pg_advisory_xact_lock(1)', SQL.noop)"
    write_migration(sample, "0002_slow", "SQL('CREATE TABLE slow ()', 'DROP TABLE slow')", slow)
    with servers.primary.connect(database, "keyhub") as client:
        client.execute("SELECT pg_advisory_lock(1)")
        killed_at("pg_advisory_xact_lock", migrate("--lock-timeout-ms=60000"), servers, client)
    with servers.primary.connect(database, "keyhub") as client:
        assert (recorded(client), client.execute("SELECT to_regclass('slow')").fetchone()) == (["0001_items"], (None,))
        result = migrate().completed()
        assert (result.returncode, result.stderr) == (0, "")
        assert recorded(client) == ["0001_items", "0002_slow"]
        assert client.execute("SELECT to_regclass('slow')").fetchone() == ("slow",)


def test_while_an_index_is_built_concurrently(servers, database, migrate, sample: Path):  # noqa: F811
    index = "SQL('CREATE INDEX CONCURRENTLY item_name ON item (name)', 'DROP INDEX item_name')"
    write_migration(sample, "0002_index", index, atomic=False)
    assert migrate("0001").completed().returncode == 0
    client, holder = (servers.primary.connect(database, "keyhub") for _ in range(2))
    with closing(client), closing(holder):
        holder.execute("BEGIN; INSERT INTO item VALUES (1, 'one')")  # for whose end the build waits
        killed_at("CREATE INDEX CONCURRENTLY", migrate(), servers, client)
    with servers.primary.connect(database, "keyhub") as client:
        result = migrate().completed()
        assert (result.returncode, result.stderr) == (
            0,
            "The index item_name is invalid, left by an interrupted build: dropping it and building it anew.\n",
        )
        assert recorded(client) == ["0001_items", "0002_index"]
        validity = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'item_name'::regclass"
        assert client.execute(validity).fetchone() == (True,)


def test_while_there_is_no_primary(servers, migrate):
    dead, standby = servers.primary.socket_directory, servers.standby.socket_directory
    servers.kill_primary()
    result = migrate().completed()
    told = {
        dead: f"host: '{dead}', port: None, hostaddr: None: connection is bad: connection to server on socket "
        f'"{dead}/.s.PGSQL.5432" failed: Connection refused Is the server running locally and accepting connections on '
        "that socket?",
        standby: f"host: '{standby}', port: None, hostaddr: None: connection failed: connection to server on socket "
        f'"{standby}/.s.PGSQL.5432" failed: session is read-only',
    }
    assert (result.returncode, result.stdout, result.stderr) == (
        3,
        "",
        f"keyhub: the database cannot be reached: {' - '.join(told[host] for host in sorted(told))}\n",
    )


def test_on_a_standby(servers):
    environment = {**os.environ, "DATABASE_URL": database_url(servers.standby, "keyhub")}
    result = Run("migrate", "accounts", "zero", "--yes", env=environment).completed()
    assert (result.returncode, result.stderr) == (
        3,
        "keyhub: the database takes no writes, as a standby does: cannot execute INSERT in a read-only transaction\n",
    )
