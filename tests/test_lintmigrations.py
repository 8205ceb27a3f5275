"""The linter: each rule on a history that breaks it and one that does not, the source's own files, the command."""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from keyhub.lintmigrations import checks, linter, squawk
from keyhub.lintmigrations.report import Report
from keyhub.lintmigrations.rules.registry import all_ids
from tests.lintmigrations.fixtures import RULES, history
from tests.processes import Run

REPOSITORY = Path(__file__).parent.parent
SOURCE = REPOSITORY / "tests" / "lintmigrations" / "source"
PAGE = REPOSITORY / "docs" / "operations" / "lintmigrations.md"
FOLDERS = sorted(folder.name for folder in RULES.iterdir() if folder.is_dir())


def run(*arguments: str, cwd: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess:
    """Run `manage.py lintmigrations` as a process of its own."""
    return Run(*arguments, cwd=cwd, env={**os.environ, **environment}).completed()


def lint_folder(rule: str, side: str, monkeypatch) -> Report:
    monkeypatch.chdir(RULES / rule)
    folder = RULES / rule / side if list((RULES / rule / side).glob("*.py")) else Path(side)
    return linter.lint(history(folder), ask_squawk=False)


# The rules


@pytest.mark.parametrize("rule", FOLDERS)
def test_a_rule_fires(rule, monkeypatch):
    report = lint_folder(rule, "fires", monkeypatch)
    assert report.as_text() + "\n" == (RULES / rule / "fires.txt").read_text(encoding="utf-8")
    assert f"keyhub.{rule.partition('_')[0]}" in {finding.id for finding in report.findings}


@pytest.mark.parametrize("rule", FOLDERS)
def test_a_rule_does_not_fire(rule, monkeypatch):
    assert lint_folder(rule, "passes", monkeypatch).findings == []


def test_every_rule_has_its_fixtures_and_its_section():
    ids = all_ids() | {"keyhub.M035"}
    assert {f"keyhub.{name.partition('_')[0]}" for name in FOLDERS} == ids
    assert set(re.findall(r"^### (keyhub\.M\d+) ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) == ids


def test_every_rule_that_is_left_to_keyhub_or_left_out_is_on_the_page_with_its_reason():
    page = PAGE.read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", page, re.MULTILINE))
    assert listed == squawk.LEFT_OUT


def test_the_example_on_the_page_is_what_the_command_prints():
    page = PAGE.read_text(encoding="utf-8")
    command, _, printed = re.search(r"^\$ manage\.py (.*?)(\n)(.*?)```", page, re.MULTILINE | re.DOTALL).groups()
    result = run(*command.split())
    assert (result.returncode, result.stdout, result.stderr) == (1, printed, "")
    assert f"finds {len(FAULTS)} faults" in page


# The source's own files

INITIAL = "20240101000001_initial_schema.up.sql"
SEED = "20240101000002_seed_data.up.sql"
GROUPS = "20240201000001_add_groups.up.sql"
AUDIT = "20240301000001_add_audit_logs.up.sql"
ORGANIZATIONS = "20240401000001_add_organizations.up.sql"

# (what is wrong, the rule that says so, file, line). The page lists the faults that no reading of SQL can find.
FAULTS = [
    ("uuid-ossp: a privilege, and missing from some builds", "keyhub.M019", INITIAL, 4),
    ("users.email indexed twice", "keyhub.M030", INITIAL, 17),
    ("sessions.session_id indexed twice", "keyhub.M030", INITIAL, 90),
    ("oauth_states.state indexed twice", "keyhub.M030", INITIAL, 107),
    ("tenant_join_codes.code indexed twice", "keyhub.M030", INITIAL, 130),
    ("console_sessions.session_id indexed twice", "keyhub.M030", INITIAL, 145),
    ("user_identities.user_id: UNIQUE (user_id, …) begins with it", "keyhub.M030", INITIAL, 33),
    ("tenants.organization_id: UNIQUE (organization_id, slug) begins with it", "keyhub.M030", INITIAL, 52),
    ("group_memberships.group_id: UNIQUE (group_id, user_id) begins with it", "keyhub.M030", GROUPS, 33),
    ("idx_tenants_is_default orders by what is always true", "keyhub.M031", INITIAL, 54),
    ("idx_sessions_revoked_expires orders by what is always false", "keyhub.M031", INITIAL, 93),
    ("idx_oauth_states_consumed orders by what is always NULL", "keyhub.M031", INITIAL, 109),
    ("idx_tenant_join_codes_active has CURRENT_TIMESTAMP in its predicate", "keyhub.M020", INITIAL, 133),
    ("idx_console_sessions_active has CURRENT_TIMESTAMP in its predicate", "keyhub.M020", INITIAL, 147),
    ("sessions.active_membership_id has no index", "keyhub.M029", INITIAL, 87),
    ("tenant_join_codes.created_by has no index", "keyhub.M029", INITIAL, 124),
    ("organization_domains.organization_id has no index", "keyhub.M029", ORGANIZATIONS, 24),
    ("the transaction's clock in users.created_at", "keyhub.M032", INITIAL, 7),
    ("the transaction's clock in the trigger function", "keyhub.M032", INITIAL, 150),
    ("updated_at moves though nothing changed", "keyhub.M034", INITIAL, 158),
    ("tenant_memberships has a trigger, and no updated_at", "keyhub.M021", INITIAL, 167),
    ("organizations has updated_at, and no trigger", "keyhub.M033", ORGANIZATIONS, 11),
    ("the seed fails the second time: tenants", "keyhub.M028", SEED, 4),
    ("the seed fails the second time: tenant_join_codes", "keyhub.M028", SEED, 23),
    ("the seed has no way back", "keyhub.M002", SEED, 4),
    ("the groups have no way back", "keyhub.M002", GROUPS, 4),
    ("the audit logs have no way back", "keyhub.M002", AUDIT, 3),
    ("the organizations have no way back", "keyhub.M002", ORGANIZATIONS, 4),
    ("partitions of a table that is not partitioned: 2024_01", "keyhub.M023", AUDIT, 27),
    ("partitions of a table that is not partitioned: 2024_02", "keyhub.M023", AUDIT, 30),
    ("bounds of 2024_01 depend on the session's time zone", "keyhub.M022", AUDIT, 27),
    ("bounds of 2024_02 depend on the session's time zone", "keyhub.M022", AUDIT, 30),
    ("from March 2024 on every row is refused", "keyhub.M025", AUDIT, 27),
    ("deleting a tenant deletes the evidence", "keyhub.M026", AUDIT, 16),
    ("deleting a user deletes the evidence", "keyhub.M026", AUDIT, 17),
    ("organizations: schema and data in one", "keyhub.M001", ORGANIZATIONS, 28),
    ("organizations: the INSERT fails the second time", "keyhub.M028", ORGANIZATIONS, 28),
    ("organizations: those of existing tenants are missing", "keyhub.M027", ORGANIZATIONS, 33),
    ("the tenants' key reads every row under its lock", "keyhub.M007", ORGANIZATIONS, 33),
]
# Six stop the source, or lose what it is to keep; squawk sees none of them.
SIX_THAT_MATTER = {"keyhub.M020", "keyhub.M021", "keyhub.M023", "keyhub.M022", "keyhub.M026", "keyhub.M027"}
# All that squawk says of the five files, by rule.
SQUAWK_SAYS = {
    INITIAL: {"prefer-bigint-over-int", "require-lock-timeout", "require-statement-timeout"},
    GROUPS: {"require-lock-timeout", "require-statement-timeout"},
    AUDIT: {"require-lock-timeout", "require-statement-timeout"},
    ORGANIZATIONS: {
        "adding-foreign-key-constraint",
        "constraint-missing-not-valid",
        "require-lock-timeout",
        "require-statement-timeout",
    },
}


@functools.cache
def source_findings() -> set[tuple[str, str, int]]:
    report = linter.lint_files(SOURCE.glob("*.sql"))
    assert (report.steps, report.squawk_was_asked) == (5, True)
    return {(finding.id, finding.place.path.name, finding.place.line) for finding in report.findings}


@pytest.mark.parametrize(("fault", "rule", "file", "line"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_a_fault_of_the_source_is_found(fault, rule, file, line):
    assert (rule, file, line) in source_findings()


def test_the_source_has_no_other_findings_than_its_faults():
    """What the list names once, such as the extension's function in every table, stands for its repetitions."""
    repeated = {"keyhub.M019", "keyhub.M032", "keyhub.M034"}
    rest = source_findings() - {(rule, file, line) for _, rule, file, line in FAULTS}
    assert {rule for rule, _, _ in rest} == repeated


def test_squawk_alone_finds_none_of_the_six_that_matter():
    told = {}
    for path in sorted(SOURCE.glob("*.up.sql")):
        result = subprocess.run(
            [squawk.program(), "--reporter=json", "--pg-version=15", "--assume-in-transaction", path.name],
            cwd=SOURCE,
            capture_output=True,
            text=True,
            check=False,
        )
        told[path.name] = {report["rule_name"] for report in json.loads(result.stdout)}
    assert {name: rules for name, rules in told.items() if rules} == SQUAWK_SAYS
    # Of these, what is left after LEFT_OUT is nothing, and M007 tells the two about the key with its mend.
    assert set().union(*told.values()) <= set(squawk.LEFT_OUT)
    assert {rule for rule, _, _ in source_findings()} > SIX_THAT_MATTER


def test_the_way_back_of_the_source_is_read_and_has_nothing_against_it():
    report = linter.lint_files([SOURCE / "20240101000001_initial_schema.down.sql"])
    assert (report.steps, report.findings) == (1, [])


# The project


def test_the_projects_own_migrations_are_clean():
    report = linter.lint_project()
    assert report.squawk_was_asked
    assert [(finding.id, finding.problem) for finding in report.findings] == []
    assert report.steps >= 11


def test_migrations_of_django_itself_are_not_read():
    from keyhub.lintmigrations.django_migrations import project_steps

    labels = {step.name.partition(".")[0] for step in project_steps()}
    assert labels == {"keyhub", "accounts", "tenancy", "auth_sessions", "audit", "orgs"}


def test_no_database_is_needed():
    result = run("lintmigrations", DATABASE_URL="postgres://nobody@127.0.0.1:1/nowhere")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r"\d+ migrations: no findings\n", result.stdout)


# The command


def test_findings_as_text():
    result = run("lintmigrations", "rules/M006_index_without_concurrently/fires/step.sql", cwd=SOURCE.parent)
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout == (
        "rules/M006_index_without_concurrently/fires/step.sql:1: keyhub.M006 step adds idx_tenants_name without "
        "CONCURRENTLY: writes to tenants wait for it.\n"
        "    In a migration of its own with atomic = False:\n"
        "    CREATE INDEX CONCURRENTLY idx_tenants_name ON tenants (name);\n"
        "1 migration: 1 finding\n"
    )


def test_findings_as_json(tmp_path):
    (tmp_path / "keys.sql").write_text("CREATE INDEX idx_users_name ON users (name);\nDROP INDEX idx_users_icon;\n")
    result = run("lintmigrations", "--format", "json", "keys.sql", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (1, "")
    assert json.loads(result.stdout) == {
        "migrations": 1,
        "squawk": True,
        "findings": [
            {
                "id": "keyhub.M006",
                "migration": "keys",
                "path": "keys.sql",
                "line": 1,
                "problem": "keys adds idx_users_name without CONCURRENTLY: writes to users wait for it.",
                "mend": "In a migration of its own with atomic = False:\n"
                "CREATE INDEX CONCURRENTLY idx_users_name ON users (name);",
            },
            {
                "id": "squawk.require-concurrent-index-deletion",
                "migration": "keys",
                "path": "keys.sql",
                "line": 2,
                "problem": "keys: A normal `DROP INDEX` acquires an `ACCESS EXCLUSIVE` lock on the table, blocking "
                "other accesses until the index drop can complete.",
                "mend": "Drop the index `CONCURRENTLY`.",
            },
        ],
    }


def test_nothing_found(tmp_path):
    (tmp_path / "fine.sql").write_text("-- Nothing to see.\nCREATE TABLE badges (id bigint PRIMARY KEY);\n")
    result = run("lintmigrations", "fine.sql", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "1 migration: no findings\n", "")
    result = run("lintmigrations", "--format", "json", "fine.sql", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"migrations": 1, "squawk": True, "findings": []}


UNREADABLE = [
    ("SELECT 'open;\n", "it.sql:1 cannot be read as SQL: a string is not closed."),
    ('SELECT 1;\nSELECT "open;\n', "it.sql:2 cannot be read as SQL: an identifier is not closed."),
    ("DO $$ BEGIN\n", "it.sql:1 cannot be read as SQL: a dollar-quoted string is not closed."),
    ("CREATE TABL badges ();\n", "it.sql:1 cannot be read as SQL: CREATE TABL is no statement of PostgreSQL."),
    ("\\i other.sql\n", "it.sql:1 cannot be read as SQL: '\\\\' begins no statement of PostgreSQL."),
    ("CREATE TABLE badges (\n  id bigint;\n", "it.sql:1 cannot be read as SQL: a parenthesis is not closed."),
    ("CREATE INDEX ON\n  badges;\n", "it.sql:2 cannot be read as SQL: it ends in the middle."),
]


@pytest.mark.parametrize(("text", "sentence"), UNREADABLE)
def test_sql_that_cannot_be_read(text, sentence, tmp_path, monkeypatch):
    (tmp_path / "it.sql").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError) as refused:
        call_command("lintmigrations", "it.sql")
    assert (str(refused.value), refused.value.returncode) == (sentence, 2)


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("latin.sql").write_bytes("SELECT 'é';".encode("latin-1"))
    Path("folder.sql").mkdir()
    for name, sentence in [
        ("gone.sql", "gone.sql does not exist."),
        ("latin.sql", "latin.sql cannot be read: it is not UTF-8."),
        ("folder.sql", "folder.sql cannot be read: Is a directory."),
        ("notes.txt", "notes.txt is no .sql file."),
    ]:
        with pytest.raises(CommandError) as refused:
            call_command("lintmigrations", name)
        assert (str(refused.value), refused.value.returncode) == (sentence, 2)


def test_what_cannot_be_read_leaves_stdout_empty():
    result = run("lintmigrations", "--format", "json", "gone.sql")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", "CommandError: gone.sql does not exist.\n")


@pytest.mark.parametrize("arguments", [["--format", "xml"], ["--frobnicate"]])
def test_wrong_use(arguments):
    result = run("lintmigrations", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "manage.py lintmigrations: error: " in result.stderr


def test_without_squawk_the_own_rules_are_asked_and_that_is_said(monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "")
    call_command("lintmigrations")
    written = capsys.readouterr()
    assert re.fullmatch(r"\d+ migrations: no findings\n", written.out)
    assert written.err == (
        "squawk is not installed, so its rules were not asked. Install the packages of requirements.lock.\n"
    )


# A project with faults: its own migrations, its SQL files, its system checks

SETTINGS = """
from pathlib import Path
from keyhub.settings import *

BASE_DIR = Path(__file__).parent
INSTALLED_APPS = [*INSTALLED_APPS, "shop"]
"""
MIGRATION = """from django.db import migrations

from keyhub.migration_operations import RunSQLFile


class Migration(migrations.Migration):
    operations = [
        RunSQLFile("0001_badges"),
    ]
"""
BADGES = """CREATE TABLE badges (
    id bigint PRIMARY KEY,
    created_by uuid REFERENCES users (id)
);

-- lintmigrations: keyhub.M006 because users is empty in this shop
CREATE INDEX idx_users_name ON users (name);
"""
WITHOUT_INDEX = (
    "shop 0001 makes badges (created_by) refer to users without an index: whoever deletes a row of users reads all of "
    "badges."
)
INDEX = "CREATE INDEX idx_badges_created_by ON badges (created_by);"


@pytest.fixture
def shop(tmp_path):
    """A project with an app of its own, and a function that runs a command of it."""
    files = {
        "shop_settings.py": SETTINGS,
        "shop/__init__.py": "",
        "shop/migrations/__init__.py": "",
        "shop/migrations/0001_badges.py": MIGRATION,
        "shop/sql/0001_badges.up.sql": BADGES,
        "shop/sql/0001_badges.down.sql": "DROP INDEX idx_users_name;\nDROP TABLE badges;\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def manage(*arguments: str) -> subprocess.CompletedProcess:
        return run(
            *arguments, cwd=tmp_path, DJANGO_SETTINGS_MODULE="shop_settings", PYTHONPATH=f"{tmp_path}:{REPOSITORY}"
        )

    manage.root = tmp_path
    return manage


def test_a_finding_in_an_sql_file_of_a_migration(shop):
    result = shop("lintmigrations")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout == (
        f"shop/sql/0001_badges.up.sql:3: keyhub.M029 {WITHOUT_INDEX}\n    {INDEX}\n1 migration: 1 finding\n"
    )


def test_a_missing_way_back(shop):
    (shop.root / "shop/sql/0001_badges.down.sql").unlink()
    (shop.root / "shop/sql/0001_badges.up.sql").write_text("SELECT 1;")
    result = shop("lintmigrations")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout == (
        "shop/migrations/0001_badges.py:8: keyhub.M002 shop 0001 has no way back: it runs 0001_badges.up.sql, and "
        "there is no 0001_badges.down.sql.\n"
        "    Write shop/sql/0001_badges.down.sql, which undoes it.\n"
        "1 migration: 1 finding\n"
    )


def test_the_way_back_takes_no_strong_locks_either(shop):
    (shop.root / "shop/sql/0001_badges.up.sql").write_text("SELECT 1;")
    (shop.root / "shop/sql/0001_badges.down.sql").write_text("CREATE INDEX idx_users_name ON users (name);")
    result = shop("lintmigrations")
    assert result.returncode == 1
    assert result.stdout.startswith(
        "shop/sql/0001_badges.down.sql:1: keyhub.M006 shop 0001, on its way back, adds idx_users_name without "
        "CONCURRENTLY: writes to users wait for it.\n"
    )


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        (
            "shop/migrations/0001_badges.py",
            "class Migration(\n",
            "shop/migrations/0001_badges.py:1 cannot be read as Python: '(' was never closed.",
        ),
        (
            "shop/migrations/0001_badges.py",
            "import nowhere\n",
            "the migrations cannot be loaded: No module named 'nowhere'.",
        ),
        (
            "shop/migrations/0001_badges.py",
            MIGRATION.replace("0001_badges", "0001_gone"),
            "shop/sql/0001_gone.up.sql does not exist, and shop/migrations/0001_badges.py:8 runs it.",
        ),
        (
            "shop/sql/0001_badges.up.sql",
            "SELECT 1;\nDROP TABL badges;\n",
            "shop/sql/0001_badges.up.sql:2 cannot be read as SQL: DROP TABL is no statement of PostgreSQL.",
        ),
    ],
)
def test_a_migration_that_cannot_be_read(shop, file, text, sentence):
    (shop.root / file).write_text(text)
    result = shop("lintmigrations")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"CommandError: {sentence}\n")


def test_the_system_checks_say_the_same(shop):
    script = (
        "import django; django.setup()\n"
        "from keyhub.lintmigrations import checks\n"
        "for message in checks.migrations_keep_the_rules(None): print(message.is_serious(), message)\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=shop.root,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "shop_settings",
            "PYTHONPATH": f"{shop.root}:{REPOSITORY}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == (f"False shop/sql/0001_badges.up.sql:3: (keyhub.M029) {WITHOUT_INDEX}\n\tHINT: {INDEX}\n")


def test_the_system_checks_find_nothing_in_the_project_and_are_not_asked_about_a_database():
    assert checks.migrations_keep_the_rules(None) == []
    assert checks.migrations_keep_the_rules(None, databases=["default"]) == []


def test_the_system_checks_need_neither_of_two_databases(manage):
    nowhere = "postgres://keyhub@127.0.0.1:1/keyhub"
    result = manage("check", DATABASE_URL=nowhere, ADMIN_DATABASE_URL=nowhere)
    assert (result.returncode, result.stdout, result.stderr) == (
        0,
        "System check identified no issues (0 silenced).\n",
        "",
    )


def test_the_system_checks_say_so_where_something_cannot_be_read(monkeypatch):
    monkeypatch.setattr(settings, "MIGRATION_MODULES", {"orgs": "nowhere.migrations"})
    (message,) = checks.migrations_keep_the_rules(None)
    assert str(message) == (
        "?: (keyhub.M000) The migrations cannot be linted: the migrations cannot be loaded: No module named 'nowhere'."
    )
