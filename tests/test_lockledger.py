"""The ledger of locks: measured in a scratch database that never stays, the same everywhere, and noticed when stale."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from keyhub.lockledger import ledger, modes
from keyhub.lockledger.scratch import scratch_name
from tests.conftest import REPOSITORY, database_url
from tests.pooler import needs_pgbouncer, pgbouncer
from tests.processes import Run

SETTINGS = """
from pathlib import Path
from keyhub.settings import *
INSTALLED_APPS = ["keyhub.apps.KeyHubConfig", "sample"]
VERSION_LIST = Path(__file__).parent / "versions.txt"
LOCK_LEDGER = Path(__file__).parent / "locks.txt"
"""
ITEMS = (
    "SQL('CREATE TABLE item (id int PRIMARY KEY, name text); CREATE TABLE owner (id int PRIMARY KEY)', "
    "'DROP TABLE owner, item')"
)


class Project:
    """A project of one app, with a database and a ledger of its own."""

    def __init__(self, folder: Path, url: str):
        self.folder = folder
        self.environment = {
            **os.environ,
            "DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": "project_settings",
            "PYTHONPATH": f"{folder}:{REPOSITORY}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        (folder / "sample" / "migrations").mkdir(parents=True)
        for package in ("sample", "sample/migrations"):
            (folder / package / "__init__.py").touch()
        (folder / "project_settings.py").write_text(SETTINGS)
        (folder / "versions.txt").touch()
        self.migration("0001_items", ITEMS)

    def migration(self, name: str, *operations: str, atomic: bool = True, code: str = "") -> None:
        migrations = self.folder / "sample" / "migrations"
        earlier = sorted(migrations.glob(f"{int(name[:4]) - 1:04}_*.py"))
        (migrations / f"{name}.py").write_text(
            "import datetime\n"
            "from django.db import migrations, models\n"
            "SQL = migrations.RunSQL\n"
            f"{code}\n"
            "class Migration(migrations.Migration):\n"
            f"    atomic = {atomic}\n"
            f"    dependencies = {[('sample', path.stem) for path in earlier]}\n"
            f"    operations = [{', '.join(operations)}]\n"
        )

    def start(self, *arguments: str, **environment: str) -> Run:
        return Run("lockledger", *arguments, cwd=self.folder, env={**self.environment, **environment})

    def lockledger(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return self.start(*arguments, **environment).completed()

    def measured(self, step: str) -> list[str]:
        """Write the ledger and return what it says of one step, the keys of the statements left out."""
        result = self.lockledger()
        assert (result.returncode, result.stdout, result.stderr) == (0, "locks.txt: written\n", "")
        return [re.sub("^[0-9a-f]{12} ", "", line) for line in self.said_of(step)]

    def said_of(self, step: str) -> list[str]:
        lines = (self.folder / "locks.txt").read_text().splitlines()
        first = lines.index(f"sample.{step}") + 1
        rest = [line.startswith(" ") for line in lines[first:]] + [False]
        return [line.strip() for line in lines[first : first + rest.index(False)]]


@pytest.fixture
def project(tmp_path, server, empty_database) -> Project:
    return Project(tmp_path, database_url(server, empty_database))


@pytest.fixture
def databases(server):
    def names() -> set[str]:
        with server.connect() as admin:
            return {name for (name,) in admin.execute("SELECT datname FROM pg_database")}

    return names


# What a run sees


def test_the_committed_ledger_is_current(manage, empty_database, databases):
    """What CI relies on; on PostgreSQL 15 and on 18, and in every month."""
    result = manage("lockledger", "--check", database=empty_database)
    assert (result.returncode, result.stdout, result.stderr) == (0, "locks.txt is current.\n", "")
    assert not any(name.startswith(empty_database + "_") for name in databases())


@pytest.mark.once
def test_what_demo_data_adds_is_in_it_without_demo_data_too(manage, empty_database):
    result = manage("lockledger", "--check", database=empty_database, DEMO_DATA="off")
    assert (result.returncode, result.stderr) == (0, "")


def test_locks_of_what_was_there_before_and_of_nothing_else(project):
    project.migration(
        "0002_more",
        "SQL('CREATE TABLE made (id int REFERENCES owner)', 'DROP TABLE made')",
        "SQL('ALTER TABLE made ADD COLUMN more text', SQL.noop)",
        "SQL('ALTER TABLE item ADD COLUMN more text', 'ALTER TABLE item DROP COLUMN more')",
        "SQL('ALTER TABLE item ALTER COLUMN more SET DEFAULT 1', SQL.noop)",
    )
    assert project.measured("0002_more up") == [
        "create table made (id int references owner)",
        "locks owner SHARE ROW EXCLUSIVE",
        "alter table made add column more text",
        "alter table item add column more text",
        "locks item ACCESS EXCLUSIVE",
        "alter table item alter column more set default 1",
    ]
    assert project.said_of("0002_more down")[0].endswith(" alter table item drop column more")
    assert project.said_of("0002_more down")[1] == "locks item ACCESS EXCLUSIVE"


def test_a_rewrite_and_a_rebuild(project):
    project.migration(
        "0002_types",
        "SQL('CREATE INDEX item_name ON item (name)', 'DROP INDEX item_name')",
        "SQL('CREATE TABLE made (id int)', 'DROP TABLE made')",
    )
    project.migration(
        "0003_types",
        "SQL('ALTER TABLE item ALTER COLUMN id TYPE bigint', SQL.noop)",
        "SQL('ALTER TABLE item ALTER COLUMN name TYPE varchar COLLATE \"POSIX\"', SQL.noop)",
        "SQL('ALTER TABLE made ALTER COLUMN id SET NOT NULL', SQL.noop)",
    )
    project.migration("0004_reindex", "SQL('REINDEX INDEX item_name', SQL.noop)")
    assert project.measured("0003_types up") == [
        "alter table item alter column id type bigint",
        "locks item ACCESS EXCLUSIVE",
        "rewrites item",
        'alter table item alter column name type varchar collate "POSIX"',
        "rebuilds item_name",
        "alter table made alter column id set not null",
        "locks made ACCESS EXCLUSIVE",
    ]
    assert project.said_of("0004_reindex up")[1:] == [
        "locks item SHARE",
        "locks item_name ACCESS EXCLUSIVE",
        "rebuilds item_name",
    ]


OUTSIDE_A_TRANSACTION = {
    "CREATE INDEX CONCURRENTLY item_more ON item (name)": ["locks item SHARE UPDATE EXCLUSIVE"],
    "REINDEX INDEX CONCURRENTLY item_name": ["locks item SHARE UPDATE EXCLUSIVE", "rebuilds item_name"],
    "DROP INDEX CONCURRENTLY item_name": ["locks item SHARE UPDATE EXCLUSIVE"],
    "ALTER TABLE part DETACH PARTITION part_1 CONCURRENTLY": [
        "locks part SHARE UPDATE EXCLUSIVE",
        "locks part_1 ACCESS EXCLUSIVE",
    ],
    "VACUUM owner": ["locks owner SHARE UPDATE EXCLUSIVE"],
    "VACUUM FULL item": ["locks item ACCESS EXCLUSIVE", "rewrites item"],
    "ALTER TABLE item ADD COLUMN more text": ["locks item ACCESS EXCLUSIVE"],
    "UPDATE item SET name = NULL": ["locks item ROW EXCLUSIVE"],
    "CREATE TABLE made (id int)": [],
    "CREATE INDEX CONCURRENTLY made_id ON made (id)": [],
}


def test_outside_a_transaction(project):
    project.migration(
        "0002_before",
        "SQL('CREATE INDEX item_name ON item (name)')",
        "SQL('CREATE TABLE part (id int) PARTITION BY LIST (id)')",
        "SQL('CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1)')",
    )
    project.migration("0003_outside", *(f"SQL({statement!r})" for statement in OUTSIDE_A_TRANSACTION), atomic=False)
    assert project.measured("0003_outside up") == [
        line for statement, facts in OUTSIDE_A_TRANSACTION.items() for line in (statement.lower(), *facts)
    ]


def test_a_migration_outside_a_transaction_goes_down_too(project):
    project.migration(
        "0002_index",
        "SQL('CREATE INDEX CONCURRENTLY item_name ON item (name)', 'DROP INDEX item_name')",
        "SQL('ALTER TABLE item ADD COLUMN more text', 'ALTER TABLE item DROP COLUMN more')",
        atomic=False,
    )
    project.migration("0003_after", "SQL('DROP INDEX item_name', SQL.noop)")
    assert project.measured("0002_index down") == [
        "alter table item drop column more",
        "locks item ACCESS EXCLUSIVE",
        "drop index item_name",
        "locks item ACCESS EXCLUSIVE",
    ]
    assert project.said_of("0003_after up")[1:] == ["locks item ACCESS EXCLUSIVE"]


def test_python_counts_as_one_statement(project):
    project.migration(
        "0002_fill",
        "migrations.RunPython(fill, migrations.RunPython.noop)",
        "migrations.SeparateDatabaseAndState([migrations.RunPython(empty, migrations.RunPython.noop)])",
        code=(
            "def fill(apps, schema_editor):\n"
            "    schema_editor.execute('INSERT INTO item VALUES (1)')\n"
            "    with schema_editor.connection.cursor() as cursor:\n"
            "        cursor.execute('SELECT * FROM owner FOR UPDATE')\n"
            "def empty(apps, schema_editor):\n"
            "    schema_editor.execute('TRUNCATE owner')\n"
        ),
    )
    assert project.measured("0002_fill up") == [
        "Python: fill",
        "locks item ROW EXCLUSIVE",
        "locks owner ROW SHARE",
        "Python: empty",
        "locks owner ACCESS EXCLUSIVE",
        "rewrites owner",
    ]
    assert project.said_of("0002_fill down") == ["Python: noop"]


def test_months_and_the_time_of_day_are_not_in_it(project):
    project.migration(
        "0002_months",
        "SQL('CREATE TABLE log (at date) PARTITION BY RANGE (at)', 'DROP TABLE log')",
        "SQL(\"CREATE TABLE log_2026_07 PARTITION OF log FOR VALUES FROM ('2026-07-01') TO ('2026-08-01')\", SQL.noop)",
        "SQL(\"CREATE TABLE log_2026_08 PARTITION OF log FOR VALUES FROM ('2026-08-01') TO ('2026-09-01')\", SQL.noop)",
        "SQL('CREATE TABLE report_2026_07 ()', 'DROP TABLE report_2026_07')",
        "migrations.CreateModel('Thing', [('id', models.BigAutoField(primary_key=True))])",
    )
    project.migration(
        "0003_time",
        "SQL('ALTER TABLE log ADD COLUMN more text', SQL.noop)",
        "SQL('ALTER TABLE report_2026_07 ADD COLUMN more text', SQL.noop)",
        "migrations.AddField('Thing', 'at', models.DateTimeField(default=datetime.datetime.now(datetime.UTC)))",
    )
    assert project.measured("0003_time up") == [
        "alter table log add column more text",
        'locks "log_YYYY_MM" ACCESS EXCLUSIVE',
        "locks log ACCESS EXCLUSIVE",
        "alter table report_2026_07 add column more text",
        "locks report_2026_07 ACCESS EXCLUSIVE",
        'alter table "sample_thing" add column "at" timestamp with time zone default % s not null',
        "locks sample_thing ACCESS EXCLUSIVE",
        'alter table "sample_thing" alter column "at" drop default',
    ]
    assert project.lockledger("--check").returncode == 0


def test_no_way_back_hides_nothing_behind_it(project):
    project.migration("0002_one_way", "SQL('ALTER TABLE item ADD COLUMN more text')")
    assert project.measured("0002_one_way down") == ["no way back"]
    assert project.said_of("0001_items down")[1:] == ["locks item ACCESS EXCLUSIVE", "locks owner ACCESS EXCLUSIVE"]


# --check


def test_a_changed_migration_makes_the_ledger_stale(project):
    project.migration("0002_more", "SQL('ALTER TABLE item ADD COLUMN more text', SQL.noop)")
    assert project.lockledger().returncode == 0
    project.migration("0002_more", "SQL('ALTER TABLE item /* same */ ADD  COLUMN more text', SQL.noop)")
    result = project.lockledger("--check")
    assert (result.returncode, result.stdout, result.stderr) == (0, "locks.txt is current.\n", "")
    project.migration("0002_more", "SQL('ALTER TABLE owner ADD COLUMN more text', SQL.noop)")
    before = (project.folder / "locks.txt").read_text()
    result = project.lockledger("--check")
    assert result.returncode == 1
    assert result.stdout == ""
    assert re.fullmatch(
        r'CommandError: locks\.txt is stale\. sample\.0002_more up: the file says "[0-9a-f]{12} alter table item add '
        r'column more text", the run "[0-9a-f]{12} alter table owner add column more text"\. '
        r"Run manage\.py lockledger, and commit the file with the migration\.\n",
        result.stderr,
    )
    assert (project.folder / "locks.txt").read_text() == before
    project.migration("0003_new", "SQL('DROP TABLE item', SQL.noop)")
    project.migration("0002_more", "SQL('ALTER TABLE item ADD COLUMN more text', SQL.noop)")
    assert project.lockledger("--check").stderr == (
        'CommandError: locks.txt is stale. sample.0003_new up: the file says nothing more, the run "sample.0003_new '
        'up". Run manage.py lockledger, and commit the file with the migration.\n'
    )


def test_a_missing_ledger(project):
    result = project.lockledger("--check")
    assert (result.returncode, result.stderr) == (
        1,
        "CommandError: the ledger locks.txt cannot be read (No such file or directory). "
        "Run manage.py lockledger, which writes it.\n",
    )


# The scratch database


def test_a_killed_run_is_cleared_away_by_the_next(project, databases, empty_database):
    project.migration("0002_slow", "SQL('SELECT pg_sleep(60)', SQL.noop)")
    process = project.start()
    scratch = f"{empty_database}_lockledger_scratch"
    deadline = time.monotonic() + 30
    while scratch not in databases():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)
    process.kill()
    process.communicate()
    assert scratch in databases()
    project.migration("0002_slow", "SQL('SELECT 1', SQL.noop)")
    assert project.measured("0002_slow up") == ["select 1"]
    assert scratch not in databases()


def test_interrupted_it_leaves_nothing(project, server, databases, empty_database):
    project.migration("0002_slow", "SQL('SELECT pg_sleep(60)', SQL.noop)")
    process = project.start()
    scratch = f"{empty_database}_lockledger_scratch"
    deadline = time.monotonic() + 60
    with server.connect() as admin:
        sleeping = "SELECT FROM pg_stat_activity WHERE datname = %s AND query = 'SELECT pg_sleep(60)'"
        while not admin.execute(sleeping, [scratch]).rowcount:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "keyhub: interrupted\n")
    assert scratch not in databases()


def test_two_runs_beside_one_database(project, server, empty_database):
    with server.connect(empty_database, "keyhub") as other:
        from keyhub.lockledger.scratch import LOCK_NAME
        from keyhub.migrate.runner_lock import lock_key

        other.execute("SELECT pg_advisory_lock(%s)", [lock_key(LOCK_NAME)])
        result = project.lockledger()
    assert (result.returncode, result.stderr) == (
        1,
        f"CommandError: another lockledger is at work beside the database {empty_database}. Wait until it has ended.\n",
    )


def test_a_role_that_may_not_create_databases(project, server, empty_database):
    with server.connect() as admin:
        admin.execute("DROP ROLE IF EXISTS lodger")
        admin.execute("CREATE ROLE lodger LOGIN NOCREATEDB")
        result = project.lockledger(DATABASE_URL=database_url(server, empty_database, "lodger"))
        admin.execute("DROP ROLE lodger")
    assert (result.returncode, result.stderr) == (
        1,
        "CommandError: the role lodger may not create databases, and the ledger is made in a scratch database. "
        "Run it where the role may: in development, or after ALTER ROLE … CREATEDB.\n",
    )


@pytest.mark.parametrize("connections", [2, 4, 5])
def test_a_statement_that_cannot_be_watched_is_not_held_up(project, server, empty_database, connections, databases):
    """With two connections there is none for the watcher; with four, none for whoever holds the statement up.

    With five there is none for whoever takes over from the first.
    """
    project.migration("0002_index", "SQL('CREATE INDEX CONCURRENTLY ON item (name)')", atomic=False)
    role = f"narrow_{empty_database}"
    with server.connect() as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN CREATEDB CONNECTION LIMIT {connections}")
        try:
            result = project.lockledger(DATABASE_URL=database_url(server, empty_database, role))
        finally:
            admin.execute(f"DROP ROLE {role}")
    assert result.returncode == 1
    assert re.fullmatch(
        "CommandError: a statement outside a transaction could not be watched: connection failed: .* "
        f'too many connections for role "{role}".*\n',
        result.stderr,
    )
    assert f"{empty_database}_lockledger_scratch" not in databases()


@needs_pgbouncer
def test_behind_a_pooler(project, server, empty_database, databases):
    project.migration("0002_more", "SQL('ALTER TABLE item ADD COLUMN more text', SQL.noop)")
    project.migration("0003_index", "SQL('CREATE INDEX CONCURRENTLY ON item (name)')", atomic=False)
    with pgbouncer(server, "transaction") as pooler:
        result = project.lockledger(DATABASE_URL=pooler.url(empty_database))
    assert (result.returncode, result.stderr) == (
        1,
        "CommandError: the database is reached through a pooler in transaction mode, which hands a session's locks and "
        "settings to other clients. Set DIRECT_DATABASE_URL to the server itself, for manage.py's commands.\n",
    )
    with pgbouncer(server, "session") as pooler:
        result = project.lockledger(DATABASE_URL=pooler.url(empty_database))
    assert (result.returncode, result.stderr) == (0, "")
    assert project.said_of("0002_more up")[1:] == ["locks item ACCESS EXCLUSIVE"]
    assert project.said_of("0003_index up")[1:] == ["locks item SHARE UPDATE EXCLUSIVE"]
    assert f"{empty_database}_lockledger_scratch" not in databases()


def test_a_migration_that_fails(project, databases, empty_database):
    project.migration("0002_wrong", "SQL('ALTER TABLE nothing ADD COLUMN more text', SQL.noop)")
    result = project.lockledger()
    assert (result.returncode, result.stderr) == (
        1,
        'CommandError: sample.0002_wrong cannot be run up in the scratch database: relation "nothing" does not exist\n',
    )
    assert f"{empty_database}_lockledger_scratch" not in databases()
    assert not (project.folder / "locks.txt").exists()


def test_the_configured_database_is_left_alone(project, server, empty_database, schema_dump):
    before = schema_dump(empty_database)
    assert project.lockledger().returncode == 0
    assert schema_dump(empty_database) == before


def test_an_unreachable_database(project):
    result = project.lockledger(DATABASE_URL="postgres://nobody@127.0.0.1:1/nothing")
    assert result.returncode == 3
    assert result.stderr.startswith("keyhub: the database cannot be reached: ")


def test_wrong_use(project):
    result = project.lockledger("--write")
    assert result.returncode == 2
    assert "manage.py lockledger: error: unrecognized arguments: --write" in result.stderr


@pytest.mark.parametrize("name", ["keyhub", "k" * 60, "ö" * 31, "k" * 63])
def test_the_scratch_is_never_the_database_itself(name):
    scratch = scratch_name(name)
    assert scratch.endswith("_lockledger_scratch")
    assert len(scratch.encode()) <= 63
    assert scratch != name


# The file


def test_what_is_written_is_what_is_read(tmp_path):
    step = ledger.Step()
    facts = step.of("0123456789ab", "alter table item add column more text")
    facts.add_lock("item", "ACCESS EXCLUSIVE")
    facts.add_lock('"an item"', "SHARE")
    facts.add_lock('"an item"', "SHARE UPDATE EXCLUSIVE")
    facts.rewrites.add("item")
    facts.rebuilds.add("item_name")
    step.of("Python: fill", "Python: fill").add_lock("other.item", "ROW EXCLUSIVE")
    written = {("sample.0001_items", "up"): step, ("sample.0001_items", "down"): ledger.Step(has_way=False)}
    path = tmp_path / "locks.txt"
    ledger.write(ledger.render(written), path)
    assert path.read_text() == ledger.HEADER + (
        "sample.0001_items up\n"
        "    0123456789ab alter table item add column more text\n"
        '        locks "an item" SHARE\n'
        '        locks "an item" SHARE UPDATE EXCLUSIVE\n'
        "        locks item ACCESS EXCLUSIVE\n"
        "        rewrites item\n"
        "        rebuilds item_name\n"
        "    Python: fill\n"
        "        locks other.item ROW EXCLUSIVE\n"
        "sample.0001_items down\n"
        "    no way back\n"
    )
    assert ledger.read(path) == written


@pytest.mark.parametrize("line", ["<<<<<<< ours", "        locks item", "        locks item SHARE", "    x item", ""])
def test_a_line_that_cannot_be_read_is_named(tmp_path, line):
    path = tmp_path / "locks.txt"
    path.write_text(f"sample.0001_items up\n{line}\n")
    with pytest.raises(ledger.LedgerError) as refusal:
        ledger.read(path)
    assert str(refusal.value) == (
        f"line 2 of locks.txt is no line of the ledger: {line.strip()!r}. "
        "Run manage.py lockledger, which writes the file anew."
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ALTER TABLE t ADD a int", "alter table t\n    add A int -- why\n;", True),
        ("ALTER TABLE t ADD a int", 'ALTER TABLE t ADD "A" int', False),
        ("SELECT 'a'", "SELECT 'A'", False),
    ],
)
def test_which_statements_are_the_same(one, other, same):
    assert (ledger.statement_key(one) == ledger.statement_key(other)) is same


# Lock modes


def test_which_modes_conflict_is_what_the_server_says(server, empty_database):
    with server.connect(empty_database, "keyhub") as one, server.connect(empty_database, "keyhub") as other:
        one.execute("CREATE TABLE item ()")
        for held in modes.MODES:
            with one.transaction():
                one.execute(sql.SQL("LOCK TABLE item IN {} MODE").format(sql.SQL(held)))
                conflicts = set()
                for asked in modes.MODES:
                    try:
                        with other.transaction():
                            other.execute(sql.SQL("LOCK TABLE item IN {} MODE NOWAIT").format(sql.SQL(asked)))
                    except psycopg.errors.LockNotAvailable:
                        conflicts.add(asked)
                (name,) = one.execute(
                    "SELECT mode FROM pg_locks WHERE relation = 'item'::regclass AND pid = pg_backend_pid()"
                ).fetchone()
            assert modes.CONFLICTS[held] == conflicts
            assert modes.IN_PG_LOCKS[name] == held


def test_a_mode_stays_where_no_other_stops_all_that_it_stops():
    assert modes.without_weaker(["SHARE", "SHARE UPDATE EXCLUSIVE", "ROW SHARE"]) == {"SHARE", "SHARE UPDATE EXCLUSIVE"}
    assert modes.without_weaker(["SHARE", "SHARE UPDATE EXCLUSIVE", "EXCLUSIVE"]) == {"EXCLUSIVE"}


def test_who_waits():
    assert [modes.who_waits(mode) for mode in modes.MODES] == [
        *["nobody"] * 4, *["writers"] * 3, "readers and writers",
    ]  # fmt: skip
