"""migrate --plan: the SQL, its locks and the tables' sizes below each migration, and nothing touched."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from keyhub.dbversion import version_list
from keyhub.lockledger import ledger
from tests.conftest import REPOSITORY, database_url
from tests.pooler import needs_pgbouncer, pgbouncer
from tests.processes import Run

SETTINGS = """
from pathlib import Path
from keyhub.settings import *
INSTALLED_APPS = [*INSTALLED_APPS, "sample"]
SILENCED_SYSTEM_CHECKS = ["keyhub.E012"]  # the list of versions knows no sample
LOCK_LEDGER = Path(__file__).parent / "locks.txt"
"""
COLUMN = "SQL('ALTER TABLE item ADD COLUMN more text', 'ALTER TABLE item DROP COLUMN more')"
FACTS = ("locks item ACCESS EXCLUSIVE",)


class Project:
    """Ours and one app more, whose first migration `item` is applied, with a ledger that a test writes."""

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
        (folder / "locks.txt").touch()
        self.migration("0001_item", "SQL('CREATE TABLE item (id int, name text)', 'DROP TABLE item')")
        self.do("-v0")

    def migration(self, name: str, *operations: str, atomic: bool = True, code: str = "") -> None:
        migrations = self.folder / "sample" / "migrations"
        earlier = sorted(migrations.glob(f"{int(name[:4]) - 1:04}_*.py"))
        (migrations / f"{name}.py").write_text(
            "from django.contrib.postgres.operations import AddIndexConcurrently\n"
            "from django.db import migrations, models\n"
            "SQL = migrations.RunSQL\n"
            f"{code}\n"
            "class Migration(migrations.Migration):\n"
            f"    atomic = {atomic}\n"
            f"    dependencies = {[('sample', path.stem) for path in earlier]}\n"
            f"    operations = [{', '.join(operations)}]\n"
        )

    def knows(self, step: str, statement: str, *facts: str) -> None:
        """Add a statement to the ledger, as lockledger would."""
        key = statement if statement.startswith("Python: ") else f"{ledger.statement_key(statement)} x"
        with (self.folder / "locks.txt").open("a") as file:
            file.writelines(f"{line}\n" for line in (step, f"    {key}", *(f"        {fact}" for fact in facts)))

    def migrate(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        run = Run("migrate", *arguments, cwd=self.folder, env={**self.environment, **environment})
        return run.completed(timeout=60)  # a plan that waits for a lock would wait for ever

    def do(self, *arguments: str, **environment: str) -> str:
        result = self.migrate(*arguments, **environment)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout


@pytest.fixture
def project(tmp_path, server, migrated_database) -> Project:
    return Project(tmp_path, database_url(server, migrated_database))


@pytest.fixture
def client(server, migrated_database):
    with server.connect(migrated_database, "keyhub") as client:
        yield client


# Our own migrations


# Indexes of a column that a later migration has taken away: Django looks their names up in the database, where there
# are none before the way down has made them again.
NOT_PLANNED_ON_THE_WAY_DOWN = {"axes.0002_auto_20151217_2044": 2}


# The statements are Django's and ours, whatever the server. On the oldest PostgreSQL, too, they are the ledger's:
# test_the_committed_ledger_is_current.
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.once
def test_the_committed_ledger_knows_every_statement_of_the_plan(manage, empty_database, migrated_database, direction):
    """And the plan shows every statement that the ledger has seen: collected, none is lost."""
    arguments = ["--to", "zero"] if direction == "down" else []
    database = migrated_database if direction == "down" else empty_database
    result = manage("migrate", "--plan", "--format=json", *arguments, database=database)
    assert (result.returncode, result.stderr) == (0, "")
    steps = json.loads(result.stdout)["steps"]
    assert [item for step in steps for item in step["statements"] if not item["known"]] == []
    planned = {step["migration"]: len({_text(item) for item in step["statements"]}) for step in steps}
    if direction == "down":
        for migration, statements in NOT_PLANNED_ON_THE_WAY_DOWN.items():
            planned[migration] += statements
    assert planned == {
        migration: len(step.facts) for (migration, way), step in ledger.read().items() if way == direction
    }


def _text(item: dict) -> str:
    return item["python"] if "python" in item else item["sql"]


# What it shows


def test_below_each_migration_its_sql_locks_and_sizes(project, client):
    project.migration(
        "0002_more",
        "SQL('CREATE TABLE made ()', 'DROP TABLE made')",
        COLUMN,
        "SQL('ALTER TABLE item ALTER COLUMN id TYPE bigint', SQL.noop)",
        "SQL('UPDATE item SET id = 2', SQL.noop)",
        "migrations.RunPython(fill, migrations.RunPython.noop)",
        code="def fill(apps, schema_editor): raise AssertionError",
    )
    project.migration("0003_nothing")
    project.knows("sample.0002_more up", "CREATE TABLE made ()")
    project.knows("sample.0002_more up", "alter  table item add column more text", *FACTS)
    project.knows(
        "sample.0002_more up", "ALTER TABLE item ALTER COLUMN id TYPE bigint", "rewrites item", "rebuilds item_name"
    )
    project.knows("sample.0002_more up", "Python: fill", "locks later ROW EXCLUSIVE", "locks later SHARE")
    client.execute("INSERT INTO item SELECT n, repeat('x', 1000) FROM generate_series(1, 500) AS n; ANALYZE item")
    (size,) = client.execute("SELECT pg_total_relation_size('item') / 1024").fetchone()
    assert project.do("--plan") == (
        "Planned operations:\n"
        "sample.0002_more\n"
        "    Raw SQL operation -> CREATE TABLE made ()\n"
        "    Raw SQL operation -> ALTER TABLE item ADD COLUMN more te…\n"
        "    Raw SQL operation -> ALTER TABLE item ALTER COLUMN id TY…\n"
        "    Raw SQL operation -> UPDATE item SET id = 2\n"
        "    Raw Python operation\n"
        "        CREATE TABLE made ();\n"
        "            -- no lock\n"
        "        ALTER TABLE item ADD COLUMN more text;\n"
        f"            -- ACCESS EXCLUSIVE on item (about 500 rows, {size} kB): readers and writers wait\n"
        "        ALTER TABLE item ALTER COLUMN id TYPE bigint;\n"
        "            -- rewrites item\n"
        "            -- rebuilds item_name\n"
        "        UPDATE item SET id = 2;\n"
        "            -- lock unknown: run manage.py lockledger\n"
        "        Python: fill\n"
        "            -- SHARE on later (not there yet): writers wait\n"
        "            -- ROW EXCLUSIVE on later (not there yet): nobody waits\n"
        "sample.0003_nothing\n"
    )


def test_nothing_planned(project):
    assert project.do("--plan") == "Planned operations:\n  No planned migration operations.\n"
    assert project.do("--plan", "--format=json") == '{"database": "default", "steps": []}\n'


def test_a_lock_that_the_transaction_holds_already(project):
    again = "SQL('ALTER TABLE item ADD COLUMN again text', SQL.noop)"
    for name, atomic in (("0002_within", True), ("0003_without", False)):
        project.migration(name, COLUMN, again, atomic=atomic)
        project.knows(f"sample.{name} up", "ALTER TABLE item ADD COLUMN more text", *FACTS)
        project.knows(f"sample.{name} up", "ALTER TABLE item ADD COLUMN again text")
    assert re.findall("-- no .*", project.do("--plan")) == ["-- no lock but those held already", "-- no lock"]


def test_steps_back(project):
    project.migration("0002_more", COLUMN)
    project.migration("0003_one_way", "SQL('DROP TABLE IF EXISTS made')")
    project.do("-v0")
    project.knows("sample.0002_more down", "ALTER TABLE item DROP COLUMN more", *FACTS)
    assert project.do("sample", "0001", "--plan") == (
        "Planned operations:\n"
        "sample.0003_one_way\n"
        "    Raw SQL operation -> IRREVERSIBLE\n"
        "        Raw SQL operation\n"
        "            -- no way back\n"
        "sample.0002_more\n"
        "    Raw SQL operation -> ALTER TABLE item DROP COLUMN more\n"
        "        ALTER TABLE item DROP COLUMN more;\n"
        "            -- ACCESS EXCLUSIVE on item (rows not estimated yet, 8192 bytes): readers and writers wait\n"
    )


@pytest.mark.parametrize("arguments", [[f"--down={len(version_list.read()) - 4}"], ["--to=4"]])
@pytest.mark.once
def test_versions_back(manage, migrated_database, arguments):
    """--plan asks nobody about what would be lost, and takes nothing back."""
    result = manage("migrate", "--plan", *arguments, database=migrated_database)
    assert (result.returncode, result.stderr) == (0, "")
    assert "\n        DROP TABLE organizations;\n            -- no lock but those held already\n" in result.stdout


def test_a_partitioned_table_is_the_sum_of_its_tree(project, client):
    client.execute(
        "CREATE TABLE log (at date) PARTITION BY RANGE (at);"
        "CREATE TABLE log_2026_07 PARTITION OF log FOR VALUES FROM ('2026-07-01') TO ('2026-08-01');"
        "CREATE TABLE log_2026_08 PARTITION OF log FOR VALUES FROM ('2026-08-01') TO ('2026-09-01');"
        "CREATE TABLE log_default PARTITION OF log DEFAULT;"
        "INSERT INTO log SELECT '2026-07-01' FROM generate_series(1, 1000);"
        "INSERT INTO log SELECT '2026-08-01' FROM generate_series(1, 500);"
        "INSERT INTO log SELECT '2026-09-01' FROM generate_series(1, 50); ANALYZE log"
    )
    project.migration("0002_log", "SQL('ALTER TABLE log ADD COLUMN more text', SQL.noop)")
    project.knows(
        "sample.0002_log up", "ALTER TABLE log ADD COLUMN more text", "locks log ACCESS EXCLUSIVE",
        'locks "log_YYYY_MM" ACCESS EXCLUSIVE',
    )  # fmt: skip
    (step,) = json.loads(project.do("--plan", "--format=json"))["steps"]
    sizes = {lock["table"]: (lock["rows"], lock["bytes"]) for lock in step["statements"][0]["locks"]}
    months, rest = client.execute(
        "SELECT pg_total_relation_size('log_2026_07') + pg_total_relation_size('log_2026_08'), "
        "pg_total_relation_size('log_default')"
    ).fetchone()
    assert sizes == {"log": (1550, months + rest), '"log_YYYY_MM"': (1500, months)}


def test_what_cannot_be_collected_yet_is_told(project):
    project.migration("0002_state", "migrations.CreateModel('Thing', [('a', models.IntegerField(primary_key=True))])")
    project.migration(
        "0003_unknown",
        "Failing()",
        COLUMN,
        code=(
            "class Failing(SQL):\n"
            "    def __init__(self): super().__init__('SELECT 1')\n"
            "    def database_forwards(self, *args): raise ValueError('no table\\nyet')\n"
        ),
    )
    lines = project.do("--plan").splitlines()
    assert lines[-4:] == [
        "        Raw SQL operation",
        "            -- its SQL is not known before the steps above have run (no table yet)",
        "        ALTER TABLE item ADD COLUMN more text;",
        "            -- lock unknown: run manage.py lockledger",
    ]


def test_an_index_built_concurrently(project):
    project.migration("0002_model", "migrations.CreateModel('Thing', [('id', models.BigAutoField(primary_key=True))])")
    project.migration(
        "0003_index", "AddIndexConcurrently('Thing', models.Index(fields=['id'], name='thing_id'))", atomic=False
    )
    statement = 'CREATE INDEX CONCURRENTLY "thing_id" ON "sample_thing" ("id")'
    project.knows("sample.0003_index up", statement, "locks sample_thing SHARE UPDATE EXCLUSIVE")
    assert project.do("--plan").splitlines()[-2:] == [
        f"        {statement};",
        "            -- SHARE UPDATE EXCLUSIVE on sample_thing (not there yet): nobody waits",
    ]


# JSON


@pytest.mark.once
def test_json_is_one_document(project):
    project.migration(
        "0002_more", COLUMN, "migrations.RunPython(fill)", code="def fill(apps, schema_editor): raise AssertionError"
    )
    project.knows("sample.0002_more up", "ALTER TABLE item ADD COLUMN more text", *FACTS, "rewrites item")
    for arguments, code in ((), 0), (("--check",), 1):
        result = project.migrate("--plan", "--format=json", *arguments)
        assert (result.returncode, result.stderr) == (code, "")
        assert json.loads(result.stdout) == {
            "database": "default",
            "steps": [
                {
                    "migration": "sample.0002_more",
                    "direction": "up",
                    "atomic": True,
                    "statements": [
                        {
                            "sql": "ALTER TABLE item ADD COLUMN more text;",
                            "problem": None,
                            "known": True,
                            "locks": [
                                {
                                    "table": "item",
                                    "mode": "ACCESS EXCLUSIVE",
                                    "waiting": "readers and writers",
                                    "rows": None,
                                    "bytes": 8192,
                                }
                            ],
                            "rewrites": ["item"],
                            "rebuilds": [],
                        },
                        {
                            "python": "fill",
                            "problem": None,
                            "known": False,
                            "locks": [],
                            "rewrites": [],
                            "rebuilds": [],
                        },
                    ],
                }
            ],
        }


@pytest.mark.parametrize("arguments", [["--format=json"], ["--format=text", "--check"]])
@pytest.mark.once
def test_format_is_of_plan(manage, empty_database, arguments):
    result = manage("migrate", *arguments, database=empty_database)
    assert (result.returncode, result.stdout, result.stderr) == (
        2,
        "",
        "CommandError: --format is of --plan: add --plan.\n",
    )


@pytest.mark.once
def test_an_unknown_format(manage, empty_database):
    result = manage("migrate", "--plan", "--format=xml", database=empty_database)
    assert result.returncode == 2
    assert "error: argument --format: invalid choice: 'xml'" in result.stderr


# Nothing touched


def test_a_locked_table_stops_no_plan(project, client):
    project.migration(
        "0002_more", COLUMN, "migrations.CreateModel('Thing', [('id', models.AutoField(primary_key=True))])"
    )
    project.knows("sample.0002_more up", "ALTER TABLE item ADD COLUMN more text", *FACTS)
    with client.transaction():
        client.execute("LOCK TABLE item, tenants, users IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        output = project.do("--plan")
        assert time.monotonic() - started < 20
    assert (
        "            -- ACCESS EXCLUSIVE on item (rows not estimated yet, size unknown while another session locks it)"
        ": readers and writers wait\n"
    ) in output


def test_nothing_is_written(project, client, migrated_database):
    project.migration(
        "0002_more",
        COLUMN,
        "Writing()",
        code=(
            "class Writing(SQL):\n"
            "    def __init__(self): super().__init__('SELECT 1')\n"
            "    def database_forwards(self, app_label, schema_editor, *states):\n"
            "        with schema_editor.connection.cursor() as cursor: cursor.execute('INSERT INTO item VALUES (1)')\n"
        ),
    )
    client.execute(f"ALTER DATABASE {migrated_database} SET default_transaction_read_only = on")
    output = project.do("--plan")
    assert "ALTER TABLE item ADD COLUMN more text;\n" in output
    client.execute(f"ALTER DATABASE {migrated_database} SET default_transaction_read_only = off")
    # Nor where the session may write: an operation that writes while it is asked for its SQL is refused.
    assert project.do("--plan") == output
    assert "cannot execute INSERT in a read-only transaction" in output
    assert client.execute("SELECT count(*) FROM item").fetchone() == (0,)
    assert client.execute("SELECT count(*) FROM django_migrations WHERE app = 'sample'").fetchone() == (1,)


@needs_pgbouncer
def test_a_pooler_in_transaction_mode_is_refused(manage, server, empty_database):
    """Its other clients would be given a session in which nothing can be written."""
    with pgbouncer(server, "transaction") as pooler:
        result = manage("migrate", "--plan", DATABASE_URL=pooler.url(empty_database))
    assert (result.returncode, result.stdout, result.stderr) == (
        1,
        "",
        "CommandError: the database is reached through a pooler in transaction mode, which hands a session's locks and "
        "settings to other clients. Set DIRECT_DATABASE_URL to the server itself, for manage.py's commands.\n",
    )


def test_python_inside_another_operation_is_not_run(project):
    project.migration(
        "0002_inside",
        "migrations.SeparateDatabaseAndState([migrations.RunPython(fill)])",
        code="def fill(apps, schema_editor): raise AssertionError",
    )
    assert "        Python: fill\n            -- lock unknown: run manage.py lockledger\n" in project.do("--plan")


# The ledger


@pytest.mark.once
def test_without_a_ledger_every_lock_is_unknown(project):
    (project.folder / "locks.txt").unlink()
    project.migration("0002_more", COLUMN)
    assert project.do("--plan").endswith("            -- lock unknown: run manage.py lockledger\n")


@pytest.mark.once
def test_a_ledger_that_cannot_be_read(project):
    (project.folder / "locks.txt").write_text("<<<<<<< ours\n")
    project.migration("0002_more", COLUMN)
    for arguments in ((), ("--format=json",)):
        result = project.migrate("--plan", *arguments)
        assert (result.returncode, result.stdout, result.stderr) == (
            1,
            "",
            "CommandError: line 1 of locks.txt is no line of the ledger: '<<<<<<< ours'. "
            "Run manage.py lockledger, which writes the file anew.\n",
        )
