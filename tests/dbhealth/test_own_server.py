"""What endangers a server as a whole, on a server that may be harmed."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from keyhub.embedded import EmbeddedServer
from keyhub.placement import ADMIN, State
from keyhub.splitadmin import record

pytestmark = pytest.mark.database


@pytest.fixture
def own_server(server) -> Iterator[EmbeddedServer]:
    with tempfile.TemporaryDirectory(prefix="keyhub-harmed-") as folder:
        Path(folder).chmod(0o755)
        own = EmbeddedServer(Path(folder) / "server", server.bin_directory)
        own.start()
        yield own
        own.stop()


@pytest.fixture
def findings(manage, own_server):
    """The lines of a run of one check."""

    def findings(check: str) -> list[str]:
        url = f"postgres:///keyhub?host={own_server.socket_directory}&user=postgres"
        result = manage("dbhealth", "--only", check, DATABASE_URL=url)
        assert result.stderr == ""
        return result.stdout.splitlines()

    return findings


def test_a_page_that_does_not_have_its_checksum(own_server, findings):
    with own_server.connect("keyhub") as client:
        client.execute("CREATE TABLE harmed AS SELECT n FROM generate_series(1, 1000) AS n")
        (path,) = client.execute("SELECT pg_relation_filepath('harmed')").fetchone()
    own_server.stop()
    with (own_server.data_directory / path).open("r+b") as file:
        file.seek(4000)
        file.write(b"\xff\xff\xff\xff")
    own_server.start()
    with own_server.connect("keyhub") as client, pytest.raises(psycopg.errors.DataCorrupted):
        client.execute("SELECT sum(n) FROM harmed")
    deadline = time.monotonic() + 30
    while len(lines := findings("keyhub.H027")) == 1:  # the ended session hands its count in
        assert time.monotonic() < deadline
    assert lines[0].startswith("CRITICAL keyhub.H027 keyhub: 1 pages did not have their checksum, the last at ")
    assert lines[1] == (
        "    fail over to a standby, or restore a backup on another disk; pg_amcheck tells what is damaged"
    )
    assert lines[2] == "default: 1 critical"


def test_a_prepared_transaction_that_nobody_ends(own_server, findings):
    with own_server.connect("keyhub") as client:
        client.execute("ALTER SYSTEM SET max_prepared_transactions = 2")
    own_server.stop()
    own_server.start()
    with own_server.connect("keyhub") as client:
        client.execute("BEGIN")
        client.execute("CREATE TABLE prepared ()")
        client.execute("PREPARE TRANSACTION 'left alone'")
    assert findings("keyhub.H022") == ["default: healthy"]
    # As though it had been prepared long ago: the clock of the server cannot be turned.
    lines = _with_limit(own_server, "long_transaction_s", -1)
    assert re.fullmatch(
        r"WARNING 'left alone': prepared by postgres \d+ s ago and never ended: it keeps its locks for ever", lines[0]
    )
    assert lines[1:] == ["ROLLBACK PREPARED 'left alone';"]


def test_a_standby_that_is_behind(own_server):
    environment = {**os.environ, "PGHOST": str(own_server.socket_directory), "PGUSER": "postgres"}
    with tempfile.TemporaryDirectory() as folder:
        receiver = subprocess.Popen(
            [own_server.program("pg_receivewal"), "--directory", folder, "--synchronous", "--status-interval=1"],
            env=environment,
            stderr=subprocess.PIPE,
        )
        try:
            deadline = time.monotonic() + 30
            while not (lines := _with_limit(own_server, "lag_bytes", -1, check="keyhub.H025")):
                assert time.monotonic() < deadline
        finally:
            receiver.terminate()
            receiver.communicate()
    assert re.fullmatch(r"WARNING pg_receivewal: the standby is \d+ s and \d+ MB behind", lines[0])
    assert lines[1:] == ["look at the standby's log, its disk and the network between the two"]


def test_a_server_that_takes_no_writes(own_server, findings):
    assert findings("keyhub.H036") == ["default: healthy"]
    with own_server.connect("keyhub") as client:
        client.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        client.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 30
    while len(lines := findings("keyhub.H036")) == 1:  # the postmaster reads it in its own time
        assert time.monotonic() < deadline
    assert lines == [
        "CRITICAL keyhub.H036 default_transaction_read_only: sessions begin read-only: the database takes no writes",
        "    -- Look in pg_settings and pg_db_role_setting for who sets it.",
        "    ALTER SYSTEM RESET default_transaction_read_only;",
        "    SELECT pg_reload_conf();",
        "default: 1 critical",
    ]
    own_server.stop()
    (own_server.data_directory / "standby.signal").touch()
    own_server.start()
    assert findings("keyhub.H036") == [
        "CRITICAL keyhub.H036 this server: the server is a standby: it takes no writes",
        "    point DATABASE_URL at the primary, or name all servers and target_session_attrs=read-write in it",
        "default: 1 critical",
    ]


def test_a_slot_between_the_two_databases_that_is_lost(own_server, manage):
    with own_server.connect("keyhub") as client:
        client.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        client.execute("SELECT pg_reload_conf()")
        client.execute(record.TABLE)
        record.write(client, State(ADMIN))
        ((name,),) = client.execute(
            "SELECT slot_name FROM pg_database CROSS JOIN LATERAL "
            "pg_create_logical_replication_slot('keyhub_to_default_' || oid, 'pgoutput') "
            "WHERE datname = current_database()"
        )
        deadline = time.monotonic() + 30
        while client.execute("SELECT FROM pg_replication_slots WHERE wal_status <> 'lost'").rowcount:
            assert time.monotonic() < deadline
            client.execute("SELECT pg_logical_emit_message(false, 'keyhub', 'more'), pg_switch_wal()")
            client.execute("CHECKPOINT")
    url = f"postgres:///keyhub?host={own_server.socket_directory}&user=postgres"
    result = manage(
        "dbhealth", "--database", "admin", "--only", "keyhub.H064", DATABASE_URL=url, ADMIN_DATABASE_URL=url
    )
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout == (
        f"CRITICAL keyhub.H064 {name}: the slot is lost: who reads from it can never go on\n"
        "    manage.py splitadmin --repair\n"
        "admin: 1 critical\n"
    )


LOWERED = """
import sys
import django
django.setup()
from keyhub import dbhealth
from keyhub.dbhealth import server
from keyhub.dbhealth.examination import Selection
server.LIMITS[sys.argv[1]] = float(sys.argv[2])
for finding in dbhealth.run("default", Selection(only=frozenset({sys.argv[3]}))).findings:
    print(finding.severity.upper(), f"{finding.object}: {finding.problem}")
    print(finding.mend)
"""


def _with_limit(server: EmbeddedServer, limit: str, value: float, check: str = "keyhub.H022") -> list[str]:
    url = f"postgres:///keyhub?host={server.socket_directory}&user=postgres"
    environment = {**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "keyhub.settings"}
    result = subprocess.run(
        [sys.executable, "-c", LOWERED, limit, str(value), check],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.splitlines()
