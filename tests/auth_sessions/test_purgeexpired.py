"""What has ended goes, in batches, and nothing else; a run can be ended at any moment and leaves nothing half done."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time

import psycopg
import pytest

from tests.conftest import REPOSITORY, database_url
from tests.processes import Run

pytestmark = pytest.mark.database

DIGEST = "encode(sha256(uuid_send(gen_random_uuid())), 'hex')"


@pytest.fixture
def client(server, migrated_database):
    with psycopg.connect(
        host=str(server.socket_directory), dbname=migrated_database, user="keyhub", autocommit=True
    ) as client:
        client.execute("INSERT INTO users (email) VALUES ('alice@example.com')")
        yield client


def sessions(client, rows: int, *, ended_days_ago: float, revoked: str = "NULL", name: str = "x") -> None:
    client.execute(
        "INSERT INTO sessions (session_id, user_id, created_at, expires_at, revoked, revoked_at, user_agent) "
        f"SELECT {DIGEST}, users.id, statement_timestamp() - interval '100 days', "
        f"statement_timestamp() - %s * interval '1 day', {revoked} IS NOT NULL, {revoked}, %s "
        "FROM users, generate_series(1, %s)",
        [ended_days_ago, name, rows],
    )


def kept(client) -> set[str]:
    return {name for (name,) in client.execute("SELECT DISTINCT user_agent FROM sessions")}


def told(result: subprocess.CompletedProcess) -> tuple[int, str, str]:
    return result.returncode, result.stdout, result.stderr


def fill(client) -> None:
    sessions(client, 2, ended_days_ago=31, name="expired long ago")
    sessions(client, 1, ended_days_ago=29, name="expired lately")
    sessions(client, 1, ended_days_ago=-1, name="live")
    sessions(
        client, 3, ended_days_ago=-1, revoked="statement_timestamp() - interval '31 days'", name="revoked long ago"
    )
    sessions(client, 1, ended_days_ago=-1, revoked="statement_timestamp() - interval '29 days'", name="revoked lately")
    sessions(client, 1, ended_days_ago=-1, name="revoked by the flag alone")
    client.execute("UPDATE sessions SET revoked = true WHERE user_agent = 'revoked by the flag alone'")
    for hours in (1, 25, 26):
        client.execute(
            f"INSERT INTO oauth_states (state, code_verifier, nonce, created_at) "
            f"VALUES ({DIGEST}, 'v', 'n', statement_timestamp() - %s * interval '1 hour')",
            [hours],
        )
    for hours in (-1, 1):
        client.execute(
            f"INSERT INTO console_sessions (session_id, organization_id, expires_at) "
            f"VALUES ({DIGEST}, 'ORG-DEFAULT-001', statement_timestamp() + %s * interval '1 hour')",
            [hours],
        )


def test_what_has_ended_goes_and_the_rest_stays(manage, migrated_database, client):
    fill(client)
    planned = manage("purgeexpired", "--plan", database=migrated_database)
    assert told(planned) == (
        0,
        "sessions: 6 rows would be deleted\noauth_states: 2 rows would be deleted\n"
        "console_sessions: 1 row would be deleted\n",
        "",
    )
    assert told(manage("purgeexpired", database=migrated_database)) == (
        0,
        "sessions: 6 rows deleted\noauth_states: 2 rows deleted\nconsole_sessions: 1 row deleted\n",
        "",
    )
    assert kept(client) == {"expired lately", "live", "revoked lately"}
    result = manage("purgeexpired", "--keep-days", "0", "--format", "json", database=migrated_database)
    assert (result.returncode, json.loads(result.stdout), result.stderr) == (
        0,
        {"deleted": {"sessions": 2, "oauth_states": 0, "console_sessions": 0}},
        "",
    )
    assert kept(client) == {"live"}


def test_many_rows_go_in_batches_and_what_somebody_holds_stays(server, manage, migrated_database, client):
    sessions(client, 2_500, ended_days_ago=31)
    with server.connect(migrated_database, "keyhub") as holder, holder.transaction():
        holder.execute("SELECT FROM sessions ORDER BY id LIMIT 1 FOR UPDATE")
        result = manage("purgeexpired", database=migrated_database)
    assert (result.returncode, result.stdout.splitlines()[0]) == (0, "sessions: 2499 rows deleted")
    assert client.execute("SELECT count(*) FROM sessions").fetchone() == (1,)


def test_a_table_that_somebody_locks(server, manage, migrated_database, client):
    fill(client)
    with server.connect(migrated_database, "keyhub") as holder, holder.transaction():
        holder.execute("LOCK TABLE oauth_states IN SHARE MODE")
        result = manage("purgeexpired", database=migrated_database)
    assert told(result) == (
        4,
        "",
        "CommandError: somebody holds a lock on oauth_states for longer than 500 ms. Run it again later.\n",
    )
    assert client.execute("SELECT count(*) FROM oauth_states").fetchone() == (3,)
    assert kept(client) == {"expired lately", "live", "revoked lately"}


def test_ctrl_c_amid_the_batches(server, migrated_database, client):
    """The batch under way is rolled back, those before it stay."""
    sessions(client, 1_500, ended_days_ago=31)
    client.execute(
        "CREATE SEQUENCE deletes; CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN IF nextval(''deletes'') = 1200 THEN PERFORM pg_sleep(60); END IF; RETURN OLD; END'; "
        "CREATE TRIGGER wait BEFORE DELETE ON sessions FOR EACH ROW EXECUTE FUNCTION wait()"
    )
    process = Run("purgeexpired", env={**os.environ, "DATABASE_URL": database_url(server, migrated_database)})
    deadline = time.monotonic() + 30
    while client.execute("SELECT last_value FROM deletes").fetchone() != (1200,):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (
        130,
        "",
        "CommandError: interrupted; 1000 rows were deleted, the rest stays for the next run.\n",
    )
    assert client.execute("SELECT count(*) FROM sessions").fetchone() == (500,)


@pytest.mark.once
def test_a_bar_on_a_terminal(server, migrated_database, client):
    sessions(client, 1_200, ended_days_ago=31)
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "manage.py", "purgeexpired"],
        cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=end,
        env={**os.environ, "DATABASE_URL": database_url(server, migrated_database)},
    )  # fmt: skip
    out, _ = process.communicate(timeout=30)
    shown = os.read(terminal, 10_000).decode()  # before the other end is closed: what it holds goes with it
    os.close(end)
    os.close(terminal)
    assert out.splitlines()[0] == "sessions: 1200 rows deleted"
    assert "/1200" in shown


def test_a_server_that_only_reads(server, manage, migrated_database, client):
    fill(client)
    with server.connect() as admin:
        admin.execute(f"ALTER ROLE keyhub IN DATABASE {migrated_database} SET default_transaction_read_only = on")
    assert told(manage("purgeexpired", database=migrated_database)) == (
        1,
        "",
        "CommandError: the database only reads, as a standby does. Let DATABASE_URL lead to the primary: add "
        "target_session_attrs=read-write.\n",
    )


@pytest.mark.once
def test_before_migrate(manage, empty_database):
    result = manage("purgeexpired", database=empty_database)
    assert result.returncode == 1
    assert result.stderr.startswith('CommandError: nothing more could be deleted: relation "sessions" does not exist ')


@pytest.mark.parametrize("days", ["-1", "x", "99999"])
@pytest.mark.once
def test_a_bad_number_of_days_is_wrong_use(manage, migrated_database, days):
    result = manage("purgeexpired", f"--keep-days={days}", database=migrated_database)
    assert result.returncode == 2
    assert "argument --keep-days: " in result.stderr
    assert "Traceback" not in result.stderr
