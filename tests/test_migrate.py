"""migrate at peak traffic: one runner, nothing half recorded, nobody kept waiting, nothing trusted blindly."""

import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from keyhub.embedded import EmbeddedServer
from keyhub.migrate.runner_lock import lock_key
from keyhub.migrate.statements import index_built_concurrently, is_patient
from tests.adopt import golang_migrate
from tests.conftest import REPOSITORY, database_url
from tests.pooler import needs_pgbouncer, pgbouncer
from tests.processes import Run

# What it tells does not depend on the version of PostgreSQL; tests/test_migrations.py runs on the oldest, too.
pytestmark = pytest.mark.once

MIGRATION_SETTINGS = """
from keyhub.settings import *
INSTALLED_APPS = [*INSTALLED_APPS, "sample"]
SILENCED_SYSTEM_CHECKS = ["keyhub.E012"]  # the list of versions knows no sample
"""


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """An app of its own outside the checkout, with a model Item, for migrations that only a test may have."""
    (tmp_path / "sample" / "migrations").mkdir(parents=True)
    for folder in ("sample", "sample/migrations"):
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "sample_settings.py").write_text(MIGRATION_SETTINGS)
    write_migration(tmp_path, "0001_items", "SQL('CREATE TABLE item (id int, name text)', 'DROP TABLE item')")
    return tmp_path


def write_migration(folder: Path, name: str, *operations: str, atomic: bool = True) -> None:
    number = int(name[:4])
    earlier = sorted((folder / "sample" / "migrations").glob(f"{number - 1:04}_*.py"))
    dependencies = [("sample", earlier[0].stem)] if earlier else []
    (folder / "sample" / "migrations" / f"{name}.py").write_text(
        "import time\n"
        "from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently\n"
        "from django.db import migrations, models\n"
        "SQL = migrations.RunSQL\n"
        "class Migration(migrations.Migration):\n"
        f"    atomic = {atomic}\n"
        f"    dependencies = {dependencies}\n"
        f"    operations = [{', '.join(operations)}]\n"
    )


@pytest.fixture
def migrate(sample, server, empty_database):
    """Run `migrate sample` (or what is given) on an empty database; migrate.start() does not wait."""

    class Runner:
        environment = {
            **os.environ,
            "DATABASE_URL": database_url(server, empty_database),
            "DJANGO_SETTINGS_MODULE": "sample_settings",
            "PYTHONPATH": f"{sample}:{REPOSITORY}",
        }

        def start(self, *arguments: str) -> Run:
            return Run("migrate", *(arguments or ("sample",)), cwd=sample, env=self.environment)

        def __call__(self, *arguments: str) -> subprocess.CompletedProcess:
            return self.start(*arguments).completed()

        def at_once(self, number: int) -> list[subprocess.CompletedProcess]:
            runs = Run.at_once(number, "migrate", "sample", cwd=sample, env=self.environment)
            return [run.completed() for run in runs]

    return Runner()


@pytest.fixture
def client(server, empty_database):
    with server.connect(empty_database, "keyhub") as client:
        yield client


@contextmanager
def transaction_of(server, database: str, statement: str):
    """Another client that has run a statement in a transaction and idles in it."""
    with psycopg.connect(
        host=str(server.socket_directory), dbname=database, user="keyhub", application_name="reporting"
    ) as holder:
        holder.execute(statement)
        yield holder
        holder.rollback()


def recorded(client) -> list[str]:
    return [name for (name,) in client.execute("SELECT name FROM django_migrations WHERE app = 'sample' ORDER BY id")]


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def running(client, query: str) -> list[int]:
    """The server processes that run a statement like `query`, as migrate's."""
    rows = client.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' "
        "AND query ILIKE %s AND application_name LIKE 'keyhub migrate%%'",
        [f"%{query}%"],
    )
    return [pid for (pid,) in rows]


# One runner at a time


ROUNDS = 10 if os.environ.get("KEYHUB_ALL_KILLS") else 5


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_eight_at_once_on_an_empty_database(server, empty_database, client, round_number):
    environment = {**os.environ, "DATABASE_URL": database_url(server, empty_database)}
    results = [run.completed() for run in Run.at_once(8, "migrate", env=environment)]
    assert [result.returncode for result in results] == [0] * 8, [result.stderr for result in results]
    workers = [result for result in results if "Applying" in result.stdout]
    assert len(workers) == 1
    assert client.execute("SELECT count(*) = count(DISTINCT (app, name)) FROM django_migrations").fetchone() == (True,)
    assert client.execute("SELECT count(*) FROM tenants").fetchone() == (1,)


def test_eight_at_once_run_a_data_migration_once(sample, migrate, client):
    write_migration(sample, "0002_fill", "SQL(\"INSERT INTO item SELECT 1, 'one' FROM pg_sleep(0.2)\", SQL.noop)")
    for _ in range(ROUNDS):
        assert migrate("sample", "0001").returncode == 0
        client.execute("TRUNCATE item")
        results = migrate.at_once(8)
        assert [result.returncode for result in results] == [0] * 8
        assert client.execute("SELECT count(*) FROM item").fetchone() == (1,)
        assert recorded(client) == ["0001_items", "0002_fill"]


def test_eight_at_once_build_an_index_concurrently(sample, migrate, client):
    index = "SQL('CREATE INDEX CONCURRENTLY item_name ON item (name)', 'DROP INDEX CONCURRENTLY item_name')"
    write_migration(sample, "0002_index", index, atomic=False)
    for _ in range(ROUNDS):
        assert migrate("sample", "0001").returncode == 0
        results = migrate.at_once(8)
        assert [result.returncode for result in results] == [0] * 8, [result.stderr for result in results]
        assert client.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'item_name'::regclass"
        ).fetchall() == [(True,)]


def test_the_waiter_says_who_is_at_work(sample, migrate, client):
    write_migration(sample, "0002_slow", "SQL('SELECT pg_advisory_lock(1)', SQL.noop)")
    assert migrate("sample", "0001").returncode == 0
    client.execute("SELECT pg_advisory_lock(1)")
    first = migrate.start("sample", "--lock-timeout-ms=60000")
    wait_until(lambda: running(client, "SELECT pg_advisory_lock(1)"))
    (server_process,) = running(client, "SELECT pg_advisory_lock(1)")
    second = migrate.start()
    told = second.stderr.readline()
    client.execute("SELECT pg_advisory_unlock(1)")
    first.communicate()
    output, errors = second.communicate()
    assert (first.returncode, second.returncode, errors) == (0, 0, "")
    assert re.fullmatch(
        rf"Waiting for another migrate \(server process {server_process}, keyhub migrate {first.pid}@\S+, "
        r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00\)\.\n",
        told,
    )
    assert "No migrations to apply." in output


def test_the_waiter_gives_up_after_its_time(migrate, client):
    client.execute("SET application_name = 'somebody'")
    client.execute("SELECT pg_advisory_lock(%s)", [lock_key()])
    result = migrate("--wait-s=0.3")
    assert result.returncode == 4
    assert re.search(
        r"CommandError: another migrate is at work \(server process \d+, somebody, since .*\) and has not ended in "
        r"0\.3 seconds\. Wait for it, or run this again with a longer --wait-s\.\n",
        result.stderr,
    )
    assert client.execute("SELECT to_regclass('item')").fetchone() == (None,)


# Recorded with its DDL


DEFERRED = (
    "migrations.CreateModel('Thing', [('id', models.BigAutoField(primary_key=True)), "
    "('slug', models.TextField(db_index=True, default='x'))])"
)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_migration_and_its_record_are_one_transaction(sample, migrate, client, direction):
    """Plain Django commits the table first and records it in a second transaction when an index is deferred."""
    write_migration(sample, "0002_thing", DEFERRED)
    if direction == "down":
        assert migrate().returncode == 0
    else:
        assert migrate("sample", "0001").returncode == 0
    # The record can neither be written nor taken away: then nor can the table.
    client.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no record'; END$$; "
        "CREATE TRIGGER refuse BEFORE INSERT OR DELETE ON django_migrations FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    before = client.execute("SELECT to_regclass('sample_thing')").fetchone()
    result = migrate() if direction == "up" else migrate("sample", "0001")
    assert result.returncode == 1
    assert "no record" in result.stderr
    assert client.execute("SELECT to_regclass('sample_thing')").fetchone() == before


@pytest.mark.parametrize("victim", ["runner", "backend"])
def test_after_kill_9_in_a_transaction_a_rerun_completes(sample, migrate, client, server, victim):
    write_migration(
        sample, "0002_slow", "SQL('CREATE TABLE slow ()', 'DROP TABLE slow')", "SQL('SELECT pg_sleep(600)', SQL.noop)"
    )
    process = migrate.start()
    wait_until(lambda: running(client, "pg_sleep"))
    if victim == "runner":
        process.send_signal(signal.SIGKILL)
    else:
        with server.connect() as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", running(client, "pg_sleep"))
    process.communicate()
    # The server itself notices that the runner is gone: client_connection_check_interval.
    wait_until(lambda: not running(client, "pg_sleep"))
    assert client.execute("SELECT to_regclass('slow')").fetchone() == (None,)
    assert recorded(client) == ["0001_items"]
    write_migration(sample, "0002_slow", "SQL('CREATE TABLE slow ()', 'DROP TABLE slow')")
    assert migrate().returncode == 0
    assert recorded(client) == ["0001_items", "0002_slow"]


def test_the_server_drops_the_statement_of_a_dead_runner(sample, migrate, client):
    """By itself it would go on to the end of the statement, with all locks, and with the runner's."""
    write_migration(sample, "0002_slow", "SQL('SELECT pg_sleep(60)', SQL.noop)")
    process = migrate.start()
    wait_until(lambda: running(client, "pg_sleep"))
    process.kill()
    process.communicate()
    killed_at = time.monotonic()
    wait_until(lambda: not running(client, "pg_sleep"))
    assert time.monotonic() - killed_at < 20


@pytest.mark.parametrize("outside", [False, True])
def test_after_kill_9_of_the_server_process_a_rerun_completes(sample, tmp_path, server, migrate, outside):
    """kill -9 of one server process makes PostgreSQL restart all of them, hence a server of its own."""
    own = EmbeddedServer(tmp_path / "server", server.bin_directory)
    own.start()
    try:
        migrate.environment = {**migrate.environment, "DATABASE_URL": database_url(own, "keyhub")}
        write_migration(
            sample, "0002_slow", "SQL('CREATE INDEX CONCURRENTLY item_id ON item (id)', SQL.noop)" if outside
            else "SQL('CREATE TABLE slow ()', 'DROP TABLE slow')",
            "SQL('SELECT pg_advisory_lock(1)', SQL.noop)", atomic=not outside,
        )  # fmt: skip
        with own.connect("keyhub", "keyhub") as client:
            client.execute("SELECT pg_advisory_lock(1)")
            process = migrate.start("sample", "--lock-timeout-ms=60000")
            wait_until(lambda: running(client, "SELECT pg_advisory_lock(1)"))
            (victim,) = running(client, "SELECT pg_advisory_lock(1)")
            # The lock goes with the client, so the kill comes first.
            os.kill(victim, signal.SIGKILL)
        _, errors = process.communicate()
        assert process.returncode == 3
        # Whether the server is found gone, on its way down or on its way up is a matter of the moment.
        assert re.fullmatch(r"keyhub: the database (cannot be reached|server cannot go on): .+\n", errors)
        # Twice: until it notices the kill, it still takes connections.
        wait_until(lambda: own.log_file.read_text().count("ready to accept connections") == 2)
        with own.connect("keyhub", "keyhub") as client:
            assert recorded(client) == ["0001_items"]
        result = migrate()
        assert (result.returncode, result.stderr) == (0, "")
        with own.connect("keyhub", "keyhub") as client:
            assert recorded(client) == ["0001_items", "0002_slow"]
            assert client.execute("SELECT to_regclass('slow'), to_regclass('item_id')").fetchone() == (
                (None, "item_id") if outside else ("slow", None)
            )
    finally:
        own.stop()


# Nobody waits


def test_a_migration_gives_up_its_place_and_tells_who_is_in_the_way(sample, migrate, client, server, empty_database):
    write_migration(
        sample, "0002_column", "SQL('CREATE TABLE first ()', 'DROP TABLE first')",
        "SQL('ALTER TABLE item ADD COLUMN more text', 'ALTER TABLE item DROP COLUMN more')",
    )  # fmt: skip
    assert migrate("sample", "0001").returncode == 0
    with transaction_of(server, empty_database, "SELECT count(*) FROM item") as holder:
        holder_pid = holder.info.backend_pid
        process = migrate.start("sample", "--retries=2", "--lock-timeout-ms=1000")
        reads = 0
        while process.poll() is None:
            # Behind a waiting ALTER TABLE readers wait, too: until it gives up its place, not for the holder's end.
            client.execute("SELECT count(*) FROM item")
            reads += 1
        _, errors = process.communicate()
    assert process.returncode == 4
    told = errors.splitlines()
    assert len(told) == 3
    in_the_way = (
        rf"pid {holder_pid} \(reporting, user keyhub\), idle in transaction for \d\d:\d\d:\d\d: "
        r"SELECT count\(\*\) FROM item"
    )
    for number in (1, 2):
        assert re.fullmatch(
            rf"sample\.0002_column: lock not got in try {number} of 3\. In its way: {in_the_way}\.", told[number - 1]
        )
    assert re.fullmatch(
        r"CommandError: sample\.0002_column did not get its locks in 3 tries of 1000 ms, and has changed nothing\. "
        rf"In its way: {in_the_way}\. End that session, or run this again later\.",
        told[2],
    )
    assert client.execute("SELECT to_regclass('first')").fetchone() == (None,)
    assert recorded(client) == ["0001_items"]
    assert reads > 3
    assert migrate().returncode == 0


def test_a_blocker_that_may_not_be_looked_into_is_told_all_the_same(
    sample, migrate, client, server, empty_database, worker_id
):
    """The statements of other users are for superusers and members of pg_read_all_stats."""
    deployer = f"keyhub_deployer_{worker_id}"
    write_migration(sample, "0002_column", "SQL('ALTER TABLE item ADD COLUMN more text', SQL.noop)")
    assert migrate("sample", "0001").returncode == 0
    with server.connect(empty_database) as admin:
        admin.execute(f"CREATE ROLE {deployer} LOGIN")
        try:
            for relation in ("DATABASE " + empty_database, "SCHEMA public"):
                admin.execute(f"ALTER {relation} OWNER TO {deployer}")
            for table in ("item", "django_migrations", "keyhub_migrations"):
                admin.execute(f"ALTER TABLE {table} OWNER TO {deployer}; GRANT ALL ON {table} TO keyhub")
            migrate.environment = {
                **migrate.environment,
                "DATABASE_URL": database_url(server, empty_database, deployer),
            }
            with transaction_of(server, empty_database, "LOCK TABLE item") as holder:
                result = migrate("sample", "--lock-timeout-ms=1000", "--retries=0")
                told = (
                    "CommandError: sample.0002_column did not get its locks in 1 try of 1000 ms, and has changed "
                    f"nothing. In its way: pid {holder.info.backend_pid} (reporting, user keyhub), of which only a "
                    "member of pg_read_all_stats sees more. End that session, or run this again later.\n"
                )
        finally:
            admin.execute(f"REASSIGN OWNED BY {deployer} TO keyhub; DROP OWNED BY {deployer}; DROP ROLE {deployer}")
    assert (result.returncode, result.stderr) == (4, told)


def test_it_goes_through_when_the_way_is_free_again(sample, migrate, client, server, empty_database):
    write_migration(sample, "0002_column", "SQL('ALTER TABLE item ADD COLUMN more text', SQL.noop)")
    assert migrate("sample", "0001").returncode == 0
    with transaction_of(server, empty_database, "SELECT count(*) FROM item"):
        process = migrate.start("sample", "--lock-timeout-ms=100")
        told = process.stderr.readline()
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "lock not got in try 1 of 11" in told
    assert output.rstrip().endswith("OK")
    assert recorded(client) == ["0001_items", "0002_column"]


def test_a_patient_statement_is_not_patient_behind_a_strong_lock(sample, migrate, client, server, empty_database):
    """Whoever waits for what its transaction holds would wait as long as it does."""
    write_migration(
        sample, "0002_other", "SQL('CREATE TABLE other (id int); "
        "ALTER TABLE other ADD CONSTRAINT positive CHECK (id > 0) NOT VALID', 'DROP TABLE other')",
    )  # fmt: skip
    write_migration(
        sample, "0003_column", "SQL('ALTER TABLE item ADD COLUMN more text', SQL.noop)",
        "SQL('ALTER TABLE other VALIDATE CONSTRAINT positive', SQL.noop)",
    )  # fmt: skip
    assert migrate("sample", "0002").returncode == 0
    with transaction_of(server, empty_database, "LOCK TABLE other IN SHARE UPDATE EXCLUSIVE MODE"):
        process = migrate.start("sample", "--lock-timeout-ms=1000", "--retries=0")
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 4, errors
    assert migrate().returncode == 0


def test_concurrently_waits_as_long_as_it_needs(sample, migrate, client, server, empty_database):
    """A lock_timeout would cancel it while it waits for old snapshots, and leave an invalid index."""
    write_migration(
        sample, "0002_index", "SQL('CREATE INDEX CONCURRENTLY item_name ON item (name)', 'DROP INDEX item_name')",
        atomic=False,
    )  # fmt: skip
    assert migrate("sample", "0001").returncode == 0
    with transaction_of(server, empty_database, "INSERT INTO item VALUES (1, 'one')"):
        process = migrate.start("sample", "--lock-timeout-ms=100", "--retries=0")
        wait_until(lambda: running(client, "CREATE INDEX CONCURRENTLY"))
        time.sleep(1)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")


# What an interrupted build left behind


INDEX_EXISTS = (
    "CommandError: an index item_id exists already, and this migration was to build it. Compare the two; drop the "
    "index and run this again, or record the migration with --fake.\n"
)
CONCURRENT_INDEX = "SQL('CREATE UNIQUE INDEX CONCURRENTLY {exists}item_id ON item (id)', 'DROP INDEX item_id')"


def test_an_invalid_index_is_dropped_and_built_anew(sample, migrate, client):
    write_migration(sample, "0002_index", CONCURRENT_INDEX.format(exists="IF NOT EXISTS "), atomic=False)
    assert migrate("sample", "0001").returncode == 0
    client.execute("INSERT INTO item VALUES (1, 'one'), (1, 'two')")
    result = migrate()
    assert result.returncode == 1
    assert "could not create unique index" in result.stderr
    assert client.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'item_id'::regclass").fetchone() == (
        False,
    )
    client.execute("DELETE FROM item WHERE name = 'two'")
    result = migrate()
    assert (result.returncode, result.stderr) == (
        0,
        "The index item_id is invalid, left by an interrupted build: dropping it and building it anew.\n",
    )
    assert client.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'item_id'::regclass").fetchone() == (
        True,
    )


@pytest.mark.parametrize("exists", ["", "IF NOT EXISTS "])
def test_a_foreign_index_of_the_same_name_is_not_trusted(sample, migrate, client, exists):
    write_migration(sample, "0002_index", CONCURRENT_INDEX.format(exists=exists), atomic=False)
    assert migrate("sample", "0001").returncode == 0
    client.execute("CREATE INDEX item_id ON item (name)")
    for _ in range(2):
        result = migrate()
        assert (result.returncode, result.stderr) == (1, INDEX_EXISTS)
    assert recorded(client) == ["0001_items"]


@pytest.mark.parametrize("moment", ["while it builds", "before it is recorded"])
def test_killed_outside_a_transaction_a_rerun_completes(sample, migrate, client, server, empty_database, moment):
    write_migration(
        sample, "0002_index", CONCURRENT_INDEX.format(exists=""), "SQL('SELECT pg_advisory_lock(1)', SQL.noop)",
        atomic=False,
    )  # fmt: skip
    assert migrate("sample", "0001").returncode == 0
    if moment == "while it builds":
        with transaction_of(server, empty_database, "INSERT INTO item VALUES (1, 'one')"):
            process = migrate.start()
            wait_until(lambda: running(client, "CREATE UNIQUE INDEX CONCURRENTLY"))
            process.kill()
            process.communicate()
            wait_until(lambda: not running(client, "CREATE UNIQUE INDEX CONCURRENTLY"))
        assert client.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'item_id'::regclass").fetchone() == (
            False,
        )
    else:
        client.execute("SELECT pg_advisory_lock(1)")
        process = migrate.start("sample", "--lock-timeout-ms=60000")
        wait_until(lambda: running(client, "SELECT pg_advisory_lock(1)"))
        process.kill()
        process.communicate()
        client.execute("SELECT pg_advisory_unlock(1)")
    assert recorded(client) == ["0001_items"]
    result = migrate()
    assert result.returncode == 0, result.stderr
    assert recorded(client) == ["0001_items", "0002_index"]
    assert client.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'item_id'::regclass").fetchone() == (
        True,
    )


def test_killed_on_the_way_back_outside_a_transaction_a_rerun_completes(sample, migrate, client):
    """What Django's operations for indexes did before the kill is passed over, be it built or dropped."""
    (sample / "sample" / "models.py").touch()
    write_migration(sample, "0002_thing", DEFERRED)
    index = "models.Index(fields=['slug'], name='thing_{}')"
    write_migration(
        sample, "0003_indexes", f"AddIndexConcurrently('thing', {index.format('old')})",
        f"AddIndexConcurrently('thing', {index.format('other')})", atomic=False,
    )  # fmt: skip
    write_migration(
        sample, "0004_indexes", "SQL(SQL.noop, 'SELECT pg_advisory_lock(1)')",
        "RemoveIndexConcurrently('thing', 'thing_old')", f"AddIndexConcurrently('thing', {index.format('new')})",
        "SQL('SELECT pg_advisory_lock(1)', SQL.noop)", atomic=False,
    )  # fmt: skip
    indexes = "SELECT array_agg(relname::text ORDER BY 1) FROM pg_class WHERE relname ~ '^thing_(old|new|other)'"
    assert migrate("sample", "0003").returncode == 0
    for target, names in (("0004", ["thing_new", "thing_other"]), ("0003", ["thing_old", "thing_other"])):
        client.execute("SELECT pg_advisory_lock(1)")
        process = migrate.start("sample", target, "--lock-timeout-ms=60000")
        wait_until(lambda: running(client, "SELECT pg_advisory_lock(1)"))
        process.kill()
        process.communicate()
        client.execute("SELECT pg_advisory_unlock(1)")
        assert client.execute(indexes).fetchone() == (names,)
        result = migrate("sample", target)
        assert (result.returncode, result.stderr) == (0, "")
        assert recorded(client)[-1].startswith(target)
        assert client.execute(indexes).fetchone() == (names,)


def test_an_own_index_is_known_again_after_a_lock_was_not_got(sample, migrate, client, server, empty_database):
    write_migration(
        sample, "0002_index", CONCURRENT_INDEX.format(exists=""),
        "SQL('ALTER TABLE other ADD COLUMN more text', SQL.noop)", atomic=False,
    )  # fmt: skip
    assert migrate("sample", "0001").returncode == 0
    client.execute("CREATE TABLE other ()")
    with transaction_of(server, empty_database, "SELECT FROM other"):
        assert migrate("sample", "--lock-timeout-ms=100", "--retries=0").returncode == 4
    assert recorded(client) == ["0001_items"]
    result = migrate()
    assert (result.returncode, result.stderr) == (0, "")
    assert recorded(client) == ["0001_items", "0002_index"]


def test_an_index_of_another_text_of_the_migration_is_not_trusted(sample, migrate, client):
    failing = "SQL('SELECT 1 / 0', SQL.noop)"
    write_migration(sample, "0002_index", CONCURRENT_INDEX.format(exists=""), failing, atomic=False)
    assert "division by zero" in migrate().stderr
    write_migration(
        sample, "0002_index", "SQL('CREATE INDEX CONCURRENTLY item_id ON item (name)', 'DROP INDEX item_id')",
        atomic=False,
    )  # fmt: skip
    result = migrate()
    assert (result.returncode, result.stderr) == (1, INDEX_EXISTS)


def test_foreign_indexes_are_refused_before_the_first_one_is_built(sample, migrate, client):
    write_migration(
        sample, "0002_index", "SQL('CREATE INDEX CONCURRENTLY item_name ON item (name)', SQL.noop)",
        f"migrations.SeparateDatabaseAndState([{CONCURRENT_INDEX.format(exists='')}])", atomic=False,
    )  # fmt: skip
    assert migrate("sample", "0001").returncode == 0
    client.execute("CREATE INDEX item_id ON item (name)")
    result = migrate()
    assert (result.returncode, result.stderr) == (1, INDEX_EXISTS)
    assert client.execute("SELECT to_regclass('item_name')").fetchone() == (None,)


# The command


def test_djangos_options_still_work(sample, migrate, client):
    write_migration(sample, "0002_column", "SQL('ALTER TABLE item ADD COLUMN more text', SQL.noop)")
    assert "sample.0002_column" in migrate("sample", "--plan").stdout
    assert migrate("sample", "--check").returncode == 1
    assert client.execute("SELECT to_regclass('item')").fetchone() == (None,)
    assert migrate("sample", "0001").returncode == 0
    assert migrate("sample", "--fake").returncode == 0
    assert recorded(client) == ["0001_items", "0002_column"]
    assert migrate("sample", "--check").returncode == 0
    (sample / "sample" / "migrations" / "0002_column.py").unlink()
    assert migrate("sample", "--prune").returncode == 0
    assert recorded(client) == ["0001_items"]
    assert migrate("sample", "zero").returncode == 0
    assert recorded(client) == []


def test_an_unreachable_database_is_told_in_one_sentence(manage):
    result = manage("migrate", DATABASE_URL="postgres://nobody@127.0.0.1:1/nothing")
    assert result.returncode == 3
    assert result.stderr.startswith("keyhub: the database cannot be reached: ")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments", [["--wait-s=x"], ["--wait-s=-1"], ["--lock-timeout-ms=-1"], ["--lock-timeout-ms=0"], ["--retries=-1"]]
)
def test_wrong_use(manage, empty_database, arguments):
    result = manage("migrate", *arguments, database=empty_database)
    assert result.returncode == 2
    assert "manage.py migrate: error: " in result.stderr


# Statements


@pytest.mark.parametrize(
    ("statement", "patient"),
    [
        ("CREATE INDEX CONCURRENTLY i ON t (a)", True),
        ("create unique index concurrently i ON t (a)", True),
        ("DROP INDEX CONCURRENTLY IF EXISTS i", True),
        ("REINDEX TABLE CONCURRENTLY t", True),
        ("REINDEX INDEX CONCURRENTLY i", True),
        ("ALTER TABLE t VALIDATE CONSTRAINT c", True),
        ("ALTER TABLE t VALIDATE CONSTRAINT c, VALIDATE CONSTRAINT d", True),
        ('ALTER TABLE "t" VALIDATE CONSTRAINT "c";', True),
        ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", True),
        ("REINDEX (CONCURRENTLY, VERBOSE) TABLE t", True),
        ("ALTER TABLE t ADD COLUMN a int, VALIDATE CONSTRAINT c", False),
        ("ALTER TABLE t VALIDATE CONSTRAINT c, ADD COLUMN a int", False),
        ("ALTER TABLE t VALIDATE CONSTRAINT c; ALTER TABLE t ADD COLUMN a int", False),
        ("CREATE INDEX i ON t (a)", False),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID", False),
        ("ALTER TABLE t ADD COLUMN concurrently int", False),
        ("INSERT INTO t VALUES ('VALIDATE CONSTRAINT')", False),
        ("CREATE TABLE t (validate int)", False),
        ("", False),
    ],
)
def test_which_statements_may_wait(statement, patient):
    assert is_patient(statement) is patient


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("CREATE INDEX CONCURRENTLY item_name ON item (name)", "item_name"),
        ("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS Item_Name ON item (name)", "item_name"),
        ('CREATE INDEX CONCURRENTLY "Item ""Name" ON item (name)', 'Item "Name'),
        ("CREATE INDEX CONCURRENTLY ON item (name)", None),
        ("CREATE INDEX item_name ON item (name)", None),
        ("DROP INDEX CONCURRENTLY item_name", None),
        ("", None),
    ],
)
def test_which_index_is_built_concurrently(statement, index):
    assert index_built_concurrently(statement) == index


# Behind a pooler


@needs_pgbouncer
def test_a_pooler_in_transaction_mode_is_refused(manage, server, empty_database, client):
    with pgbouncer(server, "transaction") as pooler:
        result = manage("migrate", DATABASE_URL=pooler.url(empty_database))
    assert (result.returncode, result.stdout, result.stderr) == (
        1,
        "",
        "CommandError: the database is reached through a pooler in transaction mode, which hands a session's locks and "
        "settings to other clients. Set DIRECT_DATABASE_URL to the server itself, for manage.py's commands.\n",
    )
    assert client.execute("SELECT to_regclass('users')").fetchone() == (None,)


@needs_pgbouncer
def test_a_pooler_in_session_mode_is_as_good_as_the_server(manage, server, empty_database):
    with pgbouncer(server, "session") as pooler:
        result = manage("migrate", "-v0", DATABASE_URL=pooler.url(empty_database))
    assert (result.returncode, result.stderr) == (0, "")


# A database of golang-migrate: tests/test_adopt.py shows the conversion itself


def test_adopt_from_the_command_line(manage, empty_database, client):
    golang_migrate.make(client, 5)
    refused = manage("migrate", database=empty_database)
    assert (refused.returncode, refused.stdout, refused.stderr) == (
        1,
        "",
        "CommandError: the database was made by golang-migrate (schema_migrations: version 20240401000001). "
        "Run migrate --adopt, which takes its tables over.\n",
    )
    adopted = manage("migrate", "--adopt", database=empty_database)
    assert adopted.returncode == 0, adopted.stderr
    assert manage("auditpartitions", database=empty_database).returncode == 0
    healthy = manage("dbhealth", database=empty_database)
    assert (healthy.returncode, healthy.stdout.splitlines()[-1]) == (0, "default: healthy, 2 notice")
    assert manage("migrate", database=empty_database).returncode == 0


def test_a_failed_migration_is_told_in_one_sentence(sample, migrate, client):
    write_migration(sample, "0002_column", "SQL('ALTER TABLE item ADD COLUMN more strange', SQL.noop)")
    result = migrate()
    assert result.returncode == 1
    assert result.stderr.endswith(
        'CommandError: the migration failed: type "strange" does not exist LINE 1: ALTER TABLE item ADD COLUMN more '
        "strange ^. What it did in a transaction is rolled back. Mend the cause and run this again.\n"
    )
    assert "Traceback" not in result.stderr
    assert recorded(client) == ["0001_items"]
