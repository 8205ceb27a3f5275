"""Versions of the project: the committed list, where a database stands in it, and the way up and down."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from django.db.migrations.loader import MigrationLoader

from keyhub.dbversion import version_list
from keyhub.dbversion.digests import digest
from tests.conftest import REPOSITORY, database_url
from tests.processes import Run

# What it tells does not depend on the version of PostgreSQL.
pytestmark = pytest.mark.once

VERSIONS = [
    "20240101000001_initial_schema",
    "20240101000002_seed_data",
    "20240201000001_add_groups",
    "20240301000001_add_audit_logs",
    "20240401000001_add_organizations",
]
ALL = [str(version) for version in version_list.read()]


# The list


def test_the_five_versions_of_the_source_come_first():
    assert ALL[:5] == VERSIONS


def test_the_list_has_no_problem():
    graph = MigrationLoader(connection=None).graph
    assert version_list.problems(version_list.read(), graph) == []


@pytest.fixture
def listed(tmp_path) -> Path:
    return Path(shutil.copy(REPOSITORY / "keyhub" / "versions.txt", tmp_path))


def ids_of_problems(path: Path) -> dict[str, str]:
    graph = MigrationLoader(connection=None).graph
    return {problem.id: problem.message for problem in version_list.problems(version_list.read(path), graph)}


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def line_of(path: Path, migration: str) -> str:
    (line,) = [line for line in path.read_text().splitlines(keepends=True) if migration in line]
    return line


def test_a_migration_that_is_in_no_version(listed):
    edit(listed, line_of(listed, "tenancy.0003_groups"), "")
    assert ids_of_problems(listed) == {"keyhub.E012": "tenancy.0003_groups is in no version."}


def test_a_migration_that_is_listed_twice(listed):
    listed.write_text(listed.read_text() + line_of(listed, "tenancy.0003_groups"))
    assert ids_of_problems(listed) == {"keyhub.E011": "tenancy.0003_groups is listed twice."}


def test_a_migration_that_is_listed_twice_in_one_version(listed):
    line = line_of(listed, "tenancy.0003_groups")
    edit(listed, line, line + line)
    assert ids_of_problems(listed) == {"keyhub.E011": "tenancy.0003_groups is listed twice."}


def test_a_migration_that_does_not_exist(listed):
    listed.write_text(listed.read_text() + "    tenancy.0099_nothing\n")
    assert ids_of_problems(listed) == {"keyhub.E013": "tenancy.0099_nothing is listed, but there is no such migration."}


def test_an_order_in_which_they_cannot_run(listed):
    line = line_of(listed, "orgs.0003_organization_keys_not_valid")
    edit(listed, line, "")
    listed.write_text(listed.read_text() + line)
    assert ids_of_problems(listed) == {
        "keyhub.E014": "orgs.0004_fill_late_organizations is listed before orgs.0003_organization_keys_not_valid, "
        "on which it depends."
    }


def test_a_version_with_a_lower_number_than_the_one_before(listed):
    edit(listed, "20240301000001_add_audit_logs", "20230301000001_add_audit_logs")
    assert ids_of_problems(listed) == {
        "keyhub.E010": "The version 20230301000001_add_audit_logs stands after 20240201000001_add_groups, "
        "but its number is not higher."
    }


def test_a_migration_that_was_edited(listed):
    before = line_of(listed, "tenancy.0003_groups").split()[1]
    edit(listed, before, "0" * 64)
    assert ids_of_problems(listed) == {
        "keyhub.E015": "tenancy.0003_groups does not say any more what it said when it was listed in "
        "20240201000001_add_groups."
    }


@pytest.mark.parametrize("line", ["2024_too_short", "    no migration", "20240501000001_X-Y", "<<<<<<< ours"])
def test_a_line_that_cannot_be_read_is_named(listed, line):
    number = len(listed.read_text().splitlines()) + 1
    listed.write_text(listed.read_text() + line + "\n")
    with pytest.raises(version_list.VersionListError) as refusal:
        version_list.read(listed)
    assert str(refusal.value) == (
        f"line {number} of versions.txt is neither a version (YYYYMMDDHHMMSS_description) nor, indented below one, "
        f"a migration (app.name digest): {line.strip()!r}"
    )


def test_a_list_that_is_missing(tmp_path):
    with pytest.raises(version_list.VersionListError) as refusal:
        version_list.read(tmp_path / "versions.txt")
    assert str(refusal.value) == "the list of versions versions.txt cannot be read: No such file or directory"


@pytest.mark.parametrize("text", ["20240201000001_add_groups", "20240201000001", "add_groups", "3"])
def test_a_version_is_found_by_any_of_its_names(text):
    assert version_list.find(version_list.read(), text).place == 3


def test_two_branches_that_add_a_version_conflict_in_git(tmp_path, listed):
    def git(*arguments: str) -> subprocess.CompletedProcess:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    git("init", "--initial-branch=main")
    git("add", "versions.txt")
    git("commit", "--message=list")
    for branch in ("one", "two"):
        git("checkout", "-b", branch, "main")
        with listed.open("a") as file:
            file.write(f"20250101000001_{branch}\n    tenancy.0004_{branch}\n")
        git("commit", "--all", f"--message={branch}")
    assert "CONFLICT (content): Merge conflict in versions.txt" in git("merge", "one").stdout


# Digests


def test_comments_and_layout_are_no_edit_and_everything_else_is(tmp_path, monkeypatch):
    import importlib

    def digest_of(code: str, up: str = "SELECT 1;", down: str = "SELECT 2;") -> str:
        folder = tmp_path / "digested"
        (folder / "migrations").mkdir(parents=True, exist_ok=True)
        (folder / "sql").mkdir(exist_ok=True)
        (folder / "sql" / "0001.up.sql").write_text(up)
        (folder / "sql" / "0001.down.sql").write_text(down)
        (folder / "migrations" / "m0001.py").write_text(textwrap.dedent(code))
        importlib.invalidate_caches()
        sys.modules.pop("digested.migrations.m0001", None)
        shutil.rmtree(folder / "migrations" / "__pycache__", ignore_errors=True)
        module = importlib.import_module("digested.migrations.m0001")
        migration = module.Migration("0001", "digested")
        monkeypatch.setattr(
            "keyhub.migration_operations.RunSQLFile.path",
            lambda operation, app_label, direction: folder / "sql" / f"{operation.name}.{direction}.sql",
        )
        return digest(migration)

    monkeypatch.syspath_prepend(tmp_path)
    code = """
        from django.db import migrations
        from keyhub.migration_operations import RunSQLFile

        class Migration(migrations.Migration):
            operations = [RunSQLFile("0001")]
    """
    plain = digest_of(code)
    assert digest_of(code.replace("operations = [", "operations = [  # now\n" + " " * 16)) == plain
    assert digest_of(code, up="-- comment\nselect  1 ;") == plain
    assert digest_of(code, up="SELECT 3;") != plain
    assert digest_of(code, down="SELECT 3;") != plain
    nested = code.replace('[RunSQLFile("0001")]', '[migrations.SeparateDatabaseAndState([RunSQLFile("0001")])]')
    assert digest_of(nested, up="SELECT 3;") != digest_of(nested)
    assert digest_of(code.replace("operations =", "atomic = False\n            operations =")) != plain


def test_a_digest_does_not_depend_on_the_version_of_python():
    """ast.dump() does; this digest was computed once and is compared on every Python that the tests run on."""
    migration = MigrationLoader(connection=None).graph.nodes["keyhub", "0001_updated_at_function"]
    listed = version_list.read()[0].digests["keyhub", "0001_updated_at_function"]
    assert digest(migration) == listed


# A database in the list


def test_dbversion_of_a_migrated_database(manage, migrated_database):
    result = manage("dbversion", database=migrated_database)
    newest = version_list.read()[-1]
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"default: {newest} ({newest.place} of {newest.place})\n"


def test_dbversion_of_an_empty_database(manage, empty_database):
    result = manage("dbversion", "--format=json", database=empty_database)
    versions = [str(version) for version in version_list.read()]
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "database": "default", "current": None, "place": 0, "pending": versions, "refusals": [],
    }  # fmt: skip


def current(manage, database) -> str | None:
    return json.loads(manage("dbversion", "--format=json", database=database).stdout)["current"]


def test_up_and_down_by_every_kind_of_name(manage, empty_database, schema_dump):
    dumps = {}
    for text, expected in [("3", VERSIONS[2]), ("add_audit_logs", VERSIONS[3]), ("20240401000001", VERSIONS[4])]:
        result = manage("migrate", "-v0", "--to", text, database=empty_database)
        assert (result.returncode, result.stderr) == (0, "")
        assert current(manage, empty_database) == expected
        dumps[expected] = schema_dump(empty_database)
    for text in (VERSIONS[3], VERSIONS[2]):
        assert manage("migrate", "-v0", "--yes", "--to", text, database=empty_database).returncode == 0
        assert current(manage, empty_database) == text
        assert schema_dump(empty_database) == dumps[text]
    assert manage("migrate", "-v0", "--yes", "--down", "3", database=empty_database).returncode == 0
    assert current(manage, empty_database) is None
    assert manage("migrate", "-v0", database=empty_database).returncode == 0


@pytest.mark.long
def test_versions_go_down_and_up_again_by_the_command(manage, empty_database, schema_dump):
    """Some at a time; tests.test_migrations takes each migration alone."""
    targets, dumps = ALL[::-4][::-1], []
    for version in targets:
        assert manage("migrate", "-v0", f"--to={version}", database=empty_database).returncode == 0
        dumps.append(schema_dump(empty_database))
    assert len(set(dumps)) == len(targets)
    for dump in reversed(dumps[:-1]):
        assert manage("migrate", "-v0", "--yes", "--down=4", database=empty_database).returncode == 0
        assert schema_dump(empty_database) == dump


def test_going_down_says_what_would_be_lost_and_asks(manage, migrated_database, server):
    with server.connect(migrated_database, "keyhub") as client:
        client.execute(
            "INSERT INTO groups (tenant_id, name) SELECT id, unnest(ARRAY['a', 'b', 'c']) FROM tenants; "
            "INSERT INTO audit_logs (organization_id, action, resource_type) VALUES ('o', 'a', 'r')"
        )
        losses = (
            "Going down loses audit_logs: 1 rows.\nGoing down loses groups: 3 rows.\n"
            "Going down loses organizations: 1 rows.\n"
        )
        result = manage("migrate", "--to=seed_data", database=migrated_database)
        assert (result.returncode, result.stderr) == (
            1,
            losses + "CommandError: nobody is there to be asked whether that may be lost. Say --yes, or take a backup "
            "first.\n",
        )
        assert client.execute("SELECT count(*) FROM groups").fetchone() == (3,)
        result = manage("migrate", "-v0", "--to=seed_data", "--yes", database=migrated_database)
        assert (result.returncode, result.stderr) == (0, losses)
        assert client.execute("SELECT to_regclass('groups')").fetchone() == (None,)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--to=99"], 1, f"CommandError: there is no version 99. There are: {', '.join(VERSIONS)}"),
        (["--down=99"], 1, "CommandError: the database is at version "),
        (["tenancy", "--to=1"], 2, "CommandError: --to, --down and --adopt are of the whole project: name no app."),
        (["--to=1", "--down=1"], 2, "error: argument --down: not allowed with argument --to"),
        (["--down=0"], 2, "error: argument --down: 0 is less than 1"),
    ],
)
def test_wrong_targets(manage, migrated_database, arguments, code, message):
    result = manage("migrate", *arguments, database=migrated_database)
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


# A project of its own, for histories that ours must not have

SETTINGS = """
from pathlib import Path
from keyhub.settings import *
INSTALLED_APPS = [*INSTALLED_APPS, "sample", "other"]
VERSION_LIST = Path(__file__).parent / "versions.txt"
"""


class Project:
    """A project with two apps more, its own list of versions, and a database."""

    def __init__(self, folder: Path, url: str):
        self.folder = folder
        self.environment = {
            **os.environ,
            "DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": "project_settings",
            "PYTHONPATH": f"{folder}:{REPOSITORY}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        for app in ("sample", "other"):
            (folder / app / "migrations").mkdir(parents=True)
            (folder / app / "__init__.py").touch()
            (folder / app / "migrations" / "__init__.py").touch()
        (folder / "project_settings.py").write_text(SETTINGS)
        shutil.copy(REPOSITORY / "keyhub" / "versions.txt", folder)

    def migration(
        self, name: str, sql: str = "SELECT 1", reverse: str | None = "SELECT 2", after: str = "", app: str = "sample"
    ) -> Path:
        path = self.folder / app / "migrations" / f"{name}.py"
        path.write_text(
            "from django.db import migrations\n\n\n"
            "class Migration(migrations.Migration):\n"
            f"    dependencies = {[(app, after)] if after else []}\n"
            f"    operations = [migrations.RunSQL({sql!r}, {reverse!r})]\n"
        )
        return path

    def manage(self, *arguments: str) -> subprocess.CompletedProcess:
        return Run(*arguments, cwd=self.folder, env=self.environment).completed()

    def do(self, *arguments: str) -> str:
        result = self.manage(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture
def project(tmp_path, server, migrated_database) -> Project:
    return Project(tmp_path, database_url(server, migrated_database))


def test_dbversion_write_adds_a_version_at_the_end(project):
    project.migration("0001_items")
    result = project.manage("check")
    assert result.returncode == 1
    assert "(keyhub.E012) sample.0001_items is in no version." in result.stderr
    assert "_items: added\n" in project.do("dbversion", "--write")
    assert project.do("check") == "System check identified no issues (0 silenced).\n"
    lines = (project.folder / "versions.txt").read_text().splitlines()
    assert lines[-2].endswith("_items")
    assert lines[-1].startswith("    sample.0001_items ")


def test_makemigrations_adds_the_version(project):
    (project.folder / "sample" / "models.py").write_text(
        "from django.db import models\n\n\nclass Item(models.Model):\n    name = models.TextField()\n"
    )
    output = project.do("makemigrations", "sample", "--name=items")
    assert "Version 2" in output
    assert "_items" in output
    project.do("check")
    project.do("migrate", "-v0")
    assert project.do("dbversion").splitlines()[0].endswith(f"_items ({len(ALL) + 1} of {len(ALL) + 1})")


def test_an_edited_migration_is_refused_where_it_was_applied(project):
    path = project.migration("0001_items", "CREATE TABLE item ()", "DROP TABLE item")
    project.do("dbversion", "--write")
    project.do("migrate", "-v0")
    path.write_text("# A comment is no edit.\n" + path.read_text())
    project.do("check")
    project.do("migrate", "-v0")
    path.write_text(path.read_text().replace("CREATE TABLE item ()", "CREATE TABLE item (id int)"))
    result = project.manage("check")
    assert result.returncode == 1
    assert "(keyhub.E015) sample.0001_items does not say any more what it said when it was listed" in result.stderr
    # The list can be written anew; the database remembers.
    project.do("dbversion", "--write")
    assert project.manage("dbhealth", "--only", "keyhub.H006").stdout == (
        "CRITICAL keyhub.H006 sample.0001_items: the migration was edited after this database ran it\n"
        "    take the edit back, and write a new migration for the change\n"
        "default: 1 critical\n"
    )
    for command in ("migrate", "dbversion"):
        result = project.manage(command)
        assert result.returncode == 1
        assert (
            "sample.0001_items was edited after this database ran it. "
            "Take the edit back, and write a new migration for the change.\n"
        ) in result.stderr


def test_a_database_ahead_of_the_code(project):
    project.migration("0001_items")
    path = project.migration("0002_more", after="0001_items")
    project.do("dbversion", "--write")
    project.do("migrate", "-v0")
    path.unlink()
    (listed := project.folder / "versions.txt").write_text(
        "".join(line for line in listed.read_text().splitlines(keepends=True) if "0002_more" not in line)
    )
    assert project.manage("dbhealth", "--only", "keyhub.H005").stdout == (
        "CRITICAL keyhub.H005 sample.0002_more: the migration is applied, and unknown to this code\n"
        "    deploy the code that has it, or take it back with that code\n"
        "default: 1 critical\n"
    )
    for command in ("migrate", "dbversion"):
        result = project.manage(command)
        assert result.returncode == 1
        assert (
            "the database is ahead of this code: sample.0002_more is applied and unknown here. "
            "Deploy the code that has it, or take it back with that code first.\n"
        ) in result.stderr
    project.do("migrate", "sample", "--prune", "-v0")
    project.do("migrate", "-v0")


def test_a_database_ahead_of_the_code_by_a_whole_app(project, server, migrated_database):
    project.migration("0001_items")
    project.migration("0001_others", app="other")
    project.do("dbversion", "--write")
    project.do("migrate", "-v0")
    listed = project.folder / "versions.txt"
    edit(listed, line_of(listed, "other.0001_others"), "")
    settings_file = project.folder / "project_settings.py"
    settings_file.write_text(SETTINGS.replace(', "other"', ""))
    # An app of a package leaves records as well, and its tables are nobody's concern.
    with server.connect(migrated_database, "keyhub") as client:
        client.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('package', '0001_initial', now())")
    for command, prefix in (("migrate", "CommandError: "), ("dbversion", "default: ")):
        result = project.manage(command)
        assert (result.returncode, result.stderr) == (
            1,
            f"{prefix}the database is ahead of this code: other.0001_others is applied and unknown here. "
            "Deploy the code that has it, or take it back with that code first.\n",
        )


def test_a_migration_added_to_a_version_that_is_applied(project):
    project.migration("0001_items")
    project.do("dbversion", "--write")
    project.do("migrate", "-v0")
    listed = project.folder / "versions.txt"
    version = listed.read_text().splitlines()[-2]
    project.migration("0001_late", app="other")
    listed.write_text(listed.read_text() + "    other.0001_late\n")
    project.do("dbversion", "--write")
    for command, prefix in (("migrate", "CommandError: "), ("dbversion", "default: ")):
        result = project.manage(command)
        assert (result.returncode, result.stderr) == (
            1,
            f"{prefix}other.0001_late was added to the version {version}, of which this database has the rest already. "
            "Move it to a version of its own at the end of keyhub/versions.txt with a number of today.\n",
        )
    line = line_of(listed, "other.0001_late")
    edit(listed, line, "20990101000000_late\n" + line)
    project.do("migrate", "-v0")
    assert project.do("dbversion") == f"default: 20990101000000_late ({len(ALL) + 2} of {len(ALL) + 2})\n"


def test_a_version_merged_behind_an_applied_one(project):
    project.migration("0001_items")
    project.do("dbversion", "--write")
    project.do("migrate", "-v0")
    listed = project.folder / "versions.txt"
    newest = listed.read_text().splitlines()[-2]
    # Another branch began earlier and is merged later; git puts its version where its number belongs.
    project.migration("0001_late", app="other")
    late = f"{int(ALL[-1].partition('_')[0]) + 1}_late"
    edit(listed, newest, f"{late}\n    other.0001_late\n{newest}")
    project.do("dbversion", "--write")
    for command in ("migrate", "dbversion"):
        result = project.manage(command)
        assert result.returncode == 1
        assert (
            f"the version {late} was merged behind {newest}, which this database has already. "
            "Move it to the end of keyhub/versions.txt with a number of today.\n"
        ) in result.stderr
    moved = listed.read_text().replace(f"{late}\n", "")
    line = line_of(listed, "other.0001_late")
    listed.write_text(moved.replace(line, "") + "20990101000000_late\n" + line)
    project.do("migrate", "-v0")
    assert project.do("dbversion") == f"default: 20990101000000_late ({len(ALL) + 2} of {len(ALL) + 2})\n"


def test_a_version_taken_back_by_hand_is_not_a_late_one(project):
    """`migrate tenancy 0002` leaves a gap behind audit and orgs; the next migrate closes it."""
    project.do("migrate", "-v0")
    project.do("migrate", "tenancy", "0002", "-v0")
    assert "pending: 20240201000001_add_groups" in project.do("dbversion")
    project.do("migrate", "-v0")
    assert project.do("dbversion") == f"default: {ALL[-1]} ({len(ALL)} of {len(ALL)})\n"


def test_a_step_without_a_way_back_is_refused_before_anything_runs(project, server, migrated_database):
    project.migration("0001_items", "CREATE TABLE item ()", "DROP TABLE item")
    project.migration("0002_more", "SELECT 1", None, after="0001_items")
    project.migration("0003_again", "CREATE TABLE again ()", "DROP TABLE again", after="0002_more")
    project.do("dbversion", "--write")
    project.do("migrate", "-v0")
    for arguments in (["--to=5", "--yes"], ["sample", "zero"]):
        result = project.manage("migrate", *arguments)
        assert (result.returncode, result.stderr) == (
            1,
            "CommandError: sample.0002_more has no way back (Raw SQL operation), so nothing was taken back. "
            "Go down no further than to it, or restore a backup.\n",
        )
    with server.connect(migrated_database) as client:
        assert client.execute("SELECT to_regclass('again') IS NOT NULL").fetchone() == (True,)
