"""One of two databases, or both, restored from last night's backup and swapped in; then they are brought together."""

import dataclasses
import io
import subprocess
from collections.abc import Callable, Iterator

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from keyhub import placement
from keyhub.dbbackup import archive, backup, manifest, measure
from keyhub.dbbackup.errors import BackupError
from keyhub.dbbackup.manifest import Part
from keyhub.placement import ADMIN, State
from keyhub.splitadmin import mending, replacement
from keyhub.store import Store
from orgs.models import Organization
from tenancy.models import Tenant
from tests.backups import backed_up, both_backed_up, people, refusal, refusals
from tests.backups.test_dbrestore import databases
from tests.splitadmin.conftest import digests  # noqa: F401 a fixture
from tests.splitadmin.test_repair import agree

pytestmark = [pytest.mark.database, pytest.mark.once]

DEFAULT = "default"
ALONE = "SELECT slot_name FROM pg_replication_slots WHERE database = %s"
SUBSCRIPTIONS = "SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = %s)"


@pytest.fixture
def last_night(two_databases, url) -> dict:
    """Two databases with people, backed up; and what has happened since: made, changed, suspended, deleted."""
    two_databases.split()
    people()
    for name in ("ORG-STAYS", "ORG-RENAMED", "ORG-SUSPENDED", "ORG-DELETED"):
        Organization.objects.create(id=name, name=name, slug=name.lower())
    call_command("splitadmin")
    made = both_backed_up(url)
    Organization.objects.filter(pk="ORG-RENAMED").update(name="Renamed", slug="renamed")
    Organization.objects.get(pk="ORG-SUSPENDED").suspend()
    Organization.objects.get(pk="ORG-DELETED").delete()
    Organization.objects.create(id="ORG-NEW", name="New", slug="new")
    Organization.objects.create(id="ORG-AGAIN", name="Again", slug="org-deleted")
    call_command("splitadmin")
    Tenant.objects.create(organization_id="ORG-NEW", name="New", slug="new")
    return made


@pytest.fixture
def swap(two_databases, server, url) -> Iterator[Callable[[str], str]]:
    """Restore the latest backup of a database and swap it in; return the name under which the old one is kept."""

    def swap(alias: str) -> str:
        name = two_databases.name(alias)
        before = set(databases(server, name))
        call_command("dbrestore", "latest", "--from", url, "--of", alias, "--database", f"{name}_new", "--swap")
        placement.forget()
        (kept,) = set(databases(server, name)) - before
        return kept

    yield swap
    with server.connect() as admin:
        for alias in (DEFAULT, ADMIN):
            for name in databases(server, f"{two_databases.name(alias)}_replaced"):
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def left_of_replication(two_databases, name: str) -> list:
    with two_databases.server.connect() as admin:
        return [*admin.execute(ALONE, [name]).fetchall(), *admin.execute(SUBSCRIPTIONS, [name]).fetchall()]


def rows(two_databases, alias: str) -> dict[str, tuple]:
    with two_databases.connect(alias) as own:
        return {
            row[0]: row[1:]
            for row in own.execute("SELECT id, name, slug, status FROM organizations WHERE id LIKE 'ORG-%'")
        }


def test_the_tenant_database(two_databases, last_night, swap, digests, capsys):  # noqa: F811
    """What was deleted since goes from it, and so gives way to what has its slug by now."""
    now = rows(two_databases, ADMIN)
    kept = swap(DEFAULT)
    told = capsys.readouterr()
    assert told.err.splitlines()[-1:] == ["When it is in its place: manage.py splitadmin --restored default"]
    assert left_of_replication(two_databases, kept) == []
    assert set(rows(two_databases, DEFAULT)) - set(now) == {"ORG-DELETED"}
    call_command("splitadmin", "--restored", DEFAULT)
    assert capsys.readouterr().err.splitlines() == [
        "The tenant database follows anew: the tenant database has no subscription.",
        "organizations that were missing or older in the tenant database: 4.",
    ]
    assert rows(two_databases, DEFAULT) == rows(two_databases, ADMIN) == now
    Tenant.objects.create(organization_id="ORG-NEW", name="New", slug="new")
    Organization.objects.filter(pk="ORG-NEW").update(name="Newer")
    call_command("splitadmin", "--repair")
    assert agree(two_databases, digests)


def test_the_admin_database(two_databases, last_night, swap, digests, capsys):  # noqa: F811
    """The copies in the tenant database give back to it what they know of later times."""
    before = rows(two_databases, DEFAULT)
    kept = swap(ADMIN)
    assert left_of_replication(two_databases, kept) == []
    assert rows(two_databases, ADMIN)["ORG-SUSPENDED"][2] == "active"
    # What was deleted since is back, and has its slug: nobody but people can say who is to have it.
    taken = "Key (slug)=(org-deleted) already exists. Change that row there, or the other one, and run this again."
    assert refusals("splitadmin") == [
        f"organizations ORG-DELETED cannot be taken over into the tenant database: {taken}"
    ]
    assert refusals("splitadmin", "--restored", ADMIN) == [
        f"organizations ORG-AGAIN cannot be taken over into the Admin database: {taken}"
    ]
    Organization.objects.get(pk="ORG-DELETED").delete()
    assert refusals("splitadmin") == [
        "organizations that the tenant database alone has: ORG-AGAIN, ORG-NEW; tenants refers to 1 of them.",
        "organizations that are of later times in the tenant database than in the Admin database: ORG-RENAMED, "
        "ORG-SUSPENDED.",
        mending.WHICH_IS_RIGHT,
    ]
    assert rows(two_databases, DEFAULT) == before
    capsys.readouterr()
    call_command("splitadmin", "--restored", ADMIN)
    assert capsys.readouterr().err.splitlines()[0] == (
        "organizations that are given back to the Admin database: 2 that it lacked, 2 that it had of older times."
    )
    assert rows(two_databases, ADMIN) == rows(two_databases, DEFAULT) == before
    assert agree(two_databases, digests)


@pytest.mark.once
def test_both_from_a_pair_that_was_not_made_in_one_moment(two_databases, url, swap, digests, monkeypatch):  # noqa: F811
    """Between the two backups organizations were made, and deleted."""
    two_databases.split()
    Organization.objects.create(id="ORG-DELETED", name="Deleted", slug="deleted")
    call_command("splitadmin")
    make = backup.make

    def make_later(alias: str, *arguments):
        if alias == ADMIN:
            Organization.objects.get(pk="ORG-DELETED").delete()
            Organization.objects.create(id="ORG-BETWEEN", name="Between", slug="between")
        return make(alias, *arguments)

    monkeypatch.setattr(backup, "make", make_later)
    made = both_backed_up(url)
    assert made[DEFAULT].tables["public.organizations"] != made[ADMIN].tables["public.organizations"]
    Organization.objects.create(id="ORG-LOST", name="Lost", slug="lost")
    for alias in (DEFAULT, ADMIN):
        swap(alias)
    call_command("splitadmin", "--restored", DEFAULT)
    assert rows(two_databases, DEFAULT).keys() == {"ORG-DEFAULT-001", "ORG-BETWEEN"}
    assert agree(two_databases, digests)


@pytest.mark.once
def test_a_tenant_database_of_before_the_move(two_databases, url, swap, digests):  # noqa: F811
    call_command("dbbackup", "--to", url)
    two_databases.split()
    Organization.objects.create(id="ORG-NEW", name="New", slug="new")
    swap(DEFAULT)
    assert placement.state() == State()
    (words,) = refusals("splitadmin")
    assert words.endswith("manage.py splitadmin --restored default lets it follow again. Stop the site before.")
    call_command("splitadmin", "--restored", DEFAULT)
    assert placement.state() == State(ADMIN)
    assert "ORG-NEW" in rows(two_databases, DEFAULT)
    assert agree(two_databases, digests)


@pytest.mark.once
def test_what_is_refused_and_what_fails_changes_nothing(two_databases, url, server):
    two_databases.split(finish=False)
    made = both_backed_up(url)
    new = f"{two_databases.tenant}_new"
    arguments = ["dbrestore", "latest", "--from", url, "--database", new]
    assert refusal(*arguments, "--swap") == (
        "a move between the databases is under way (reversible). Before one of them is replaced, end it (manage.py "
        "splitadmin, then manage.py splitadmin --finish), or manage.py splitadmin --rollback."
    )
    assert databases(server, new) == []
    call_command("splitadmin", "--finish")
    arguments[1] = made[ADMIN].backup
    assert refusal(*arguments) == (
        f"{url} has no backup {made[ADMIN].backup} of the database {two_databases.tenant}. manage.py dbbackups list "
        "shows what it has."
    )

    def fail() -> str:
        assert not followed(two_databases)
        raise BackupError("nothing was swapped.")

    for alias in (DEFAULT, ADMIN):
        with pytest.raises(BackupError):
            replacement.replace(alias, fail)
        assert followed(two_databases)
    call_command("splitadmin")


def followed(two_databases) -> bool:
    with two_databases.connect(DEFAULT) as tenant:
        query = "SELECT subenabled FROM pg_subscription JOIN pg_database AS d ON d.oid = subdbid WHERE datname = %s"
        return tenant.execute(query, [two_databases.tenant]).fetchone()[0]


@pytest.mark.once
def test_a_backup_of_older_code_holds_publications(database, url, server):
    """And comes back with them, as it was made."""
    copy = f"{database}_copy"
    with server.connect(database) as owner:
        owner.execute("CREATE PUBLICATION somebodys FOR TABLE users")
        owner.execute("ALTER PUBLICATION somebodys OWNER TO keyhub")
        owner.execute(f"GRANT CREATE ON DATABASE {database} TO keyhub")
    made = backed_up(url)
    arguments = ["dbrestore", "latest", "--from", url, "--database", copy]
    try:
        call_command(*arguments)
        assert publications(server, copy) == []
        with server.connect() as admin:
            admin.execute(f"DROP DATABASE {copy}")
        program = [server.program("pg_dump"), "-Fc", "-Z0", "-h", server.socket_directory, "-U", "keyhub", database]
        dump = subprocess.run(program, capture_output=True, check=True).stdout
        written = archive.write(io.BytesIO(dump), Store(url), made.path("dump"), None, lambda size: None)
        part = Part(made.parts["dump"].name, written.size_bytes, written.sha256)
        with transaction.atomic():
            digest = measure.digest_of(measure.catalogue_lines(connection))
        older = dataclasses.replace(made, parts={**made.parts, "dump": part}, catalogue_sha256=digest)
        manifest.write(Store(url), older)
        call_command(*arguments)
        assert publications(server, copy) == ["somebodys"]
    finally:
        with server.connect() as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {copy} WITH (FORCE)")


def publications(server, name: str) -> list[str]:
    with server.connect(name) as own:
        return [pubname for (pubname,) in own.execute("SELECT pubname FROM pg_publication")]
