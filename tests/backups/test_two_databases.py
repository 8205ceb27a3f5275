"""Backups of a tenant database and an Admin database: each its own, and never taken for the other's."""

import contextlib
import io
import json
import subprocess
from collections.abc import Iterator

import pytest
from django.core.management import call_command
from psycopg import sql

from keyhub.dbbackup import archive
from keyhub.placement import ADMIN
from keyhub.store import Store
from orgs.models import Organization
from tests.backups import aged, both_backed_up, people, refusal, refusals, said, whole
from tests.two_databases import TwoDatabases

DEFAULT = "default"


@pytest.fixture(scope="module")
def shared(make_two_databases) -> Iterator[TwoDatabases]:
    with make_two_databases() as databases:
        databases.split()
        people()
        Organization.objects.create(id="ORG-1", name="One", slug="one")
        yield databases


# Made


def test_each_is_a_backup_of_its_own_and_proved(shared, url):
    lines = said("dbbackup", "--to", url, "--prove", "--format", "json")
    told = [json.loads(line) for line in lines]
    assert [(each["alias"], each["database"]) for each in told] == [(DEFAULT, shared.tenant), (ADMIN, shared.admin)]
    of = {item.alias: item for item in whole(url)}
    assert set(of) == {DEFAULT, ADMIN}
    assert all(item.is_proved for item in of.values())
    assert of[DEFAULT].schema_version == of[ADMIN].schema_version
    assert [of[alias].unhealthy for alias in of] == [[], []]
    assert of[ADMIN].tables["public.organizations"] == of[DEFAULT].tables["public.organizations"]
    assert "public.users" not in of[ADMIN].tables
    # The Admin database's is the later one: tenants refer to nothing that is not in it.
    assert of[DEFAULT].finished_at <= of[ADMIN].started_at
    chosen = json.loads(*said("dbbackup", "--to", url, "--database", ADMIN, "--format", "json"))
    assert "alias" not in chosen
    assert chosen["database"] == shared.admin


@pytest.mark.parametrize("role", ["postgres", "keyhub"])
def test_no_copy_is_a_second_subscriber(shared, url, server, manage, role):
    """The archive of a superuser would hold the subscription, with how it reaches the other server."""
    result = manage("dbbackup", "--to", url, **shared.environment(role))
    assert (result.returncode, result.stderr) == (0, "")
    for item in whole(url):
        stored = archive.zstd.decompress(Store(url).read(item.path("dump")))
        listed = subprocess.run(
            [server.program("pg_restore"), "--list"], input=stored, capture_output=True, check=True
        ).stdout.decode()
        assert "PUBLICATION" not in listed
        assert "SUBSCRIPTION" not in listed
        assert b"keyhub_to_default" not in stored


@contextlib.contextmanager
def table_held(databases: TwoDatabases, alias: str, table: str) -> Iterator[None]:
    with databases.connect(alias) as other, other.transaction():
        other.execute(sql.SQL("LOCK TABLE {}").format(sql.Identifier(table)))
        yield


@pytest.mark.once
@pytest.mark.parametrize(("failing", "other", "table"), [(DEFAULT, ADMIN, "users"), (ADMIN, DEFAULT, "organizations")])
def test_where_one_fails_the_other_is_made(shared, url, monkeypatch, failing, other, table):
    monkeypatch.setattr("keyhub.dbbackup.backup.LOCK_WAIT_TIMEOUT_MS", 200)
    with table_held(shared, failing, table):
        words = refusal("dbbackup", "--to", url)
    assert words.startswith(f"{failing}: ")
    assert "lock timeout" in words or "a session holds a table exclusively for longer than 0.2 seconds" in words
    assert [item.alias for item in whole(url)] == [other]


@pytest.mark.once
@pytest.mark.parametrize(("gone", "other"), [("DATABASE_URL", ADMIN), ("ADMIN_DATABASE_URL", DEFAULT)])
def test_where_one_does_not_answer_the_other_is_made(shared, url, manage, gone, other):
    urls = shared.environment()
    alias = {"DATABASE_URL": DEFAULT, "ADMIN_DATABASE_URL": ADMIN}[gone]
    urls[gone] = urls[gone].replace(shared.name(alias), "keyhub_nowhere")
    result = manage("dbbackup", "--to", url, "--format", "json", **urls)
    assert result.returncode == 3
    assert result.stderr.startswith(f"CommandError: {alias}: the database does not answer: ")
    assert result.stderr.count("\n") == 1
    assert json.loads(result.stdout)["alias"] == other
    assert [item.alias for item in whole(url)] == [other]


# Looked after


@pytest.mark.once
def test_one_is_never_taken_for_the_other(shared, url, settings):
    first, second = both_backed_up(url), both_backed_up(url)
    assert [line.split("  ")[0] for line in said("dbbackups", "list", "--from", url)] == [
        f"{alias}: {of[alias].backup}" for alias in (DEFAULT, ADMIN) for of in (second, first)
    ]
    assert [line.split("  ")[0] for line in said("dbbackups", "list", "--from", url, "--database", ADMIN)] == [
        second[ADMIN].backup, first[ADMIN].backup,
    ]  # fmt: skip
    call_command("dbbackups", "prove", first[ADMIN].backup, "--from", url)
    assert [item.backup for item in whole(url) if item.is_proved] == [first[ADMIN].backup]
    settings.BACKUP_URL = url
    assert health(DEFAULT) == ["keyhub.H050 no backup of this database is proved"]
    assert health(ADMIN) == [f"the newest proved backup, {first[ADMIN].backup}, is less than a minute old"]
    lines = refusals("dbbackups", "prune", "--from", url, "--days", "0", "--min-proved", "1")
    assert lines == [
        "default: 0 backups are proved, and 1 must be before one may go. Prove more: manage.py dbbackups prove BACKUP"
    ]
    call_command("dbbackups", "prove", "latest", "--from", url)
    assert {item.backup for item in whole(url) if item.is_proved} == {
        first[ADMIN].backup, second[ADMIN].backup, second[DEFAULT].backup,
    }  # fmt: skip
    lines = said("dbbackups", "prune", "--from", url, "--days", "0", "--min-proved", "1", "--format", "json")
    assert [(told["alias"], told["gone"]) for told in map(json.loads, lines)] == [
        (DEFAULT, [first[DEFAULT].backup]), (ADMIN, [first[ADMIN].backup]),
    ]  # fmt: skip
    assert refusal("dbbackups", "prove", first[ADMIN].backup, "--from", url) == (
        f"{url} has no backup {first[ADMIN].backup}. manage.py dbbackups list shows what it has."
    )


def health(alias: str) -> list[str]:
    out = io.StringIO()
    only = "--only=keyhub.H050", "--only=keyhub.H051"
    with contextlib.suppress(SystemExit):
        call_command("dbhealth", "--database", alias, "--format", "json", *only, stdout=out)
    report = json.loads(out.getvalue())
    report = report["databases"][0] if "databases" in report else report
    return [f"{item['id']} {item['problem']}" for item in report["findings"]] + report["notes"]


@pytest.mark.once
def test_migrate_requires_a_backup_of_each_before_it_begins(shared, url, settings):
    settings.BACKUP_URL = url
    call_command("dbbackup", "--prove", "--database", ADMIN)
    words = "default: {url} has no proved backup of this database. Make one: manage.py dbbackup --prove"
    assert refusals("migrate", "--require-backup", "1h") == [words.format(url=url)]
    made = both_backed_up(url, "--prove")
    told = io.StringIO()
    call_command("migrate", "--require-backup", "1h", verbosity=0, stderr=told)
    assert told.getvalue().splitlines() == [
        f"{alias}: The newest proved backup, {made[alias].backup}, is less than a minute old."
        for alias in (DEFAULT, ADMIN)
    ]
    for item in [item for item in whole(url) if item.alias == ADMIN]:
        aged(url, item, hours=2)
    assert refusals("migrate", "--require-backup", "1h") == [
        f"admin: the newest proved backup, {made[ADMIN].backup}, is 2 hours old: it may be 1 hour. Make another one: "
        "manage.py dbbackup --prove"
    ]
