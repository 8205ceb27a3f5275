"""The tenant database follows the Admin database anew, whatever has ended that, and no row is missed or lost by it."""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import psycopg
import pytest
from django.core.management import CommandError, call_command

from keyhub import placement
from keyhub.placement import ADMIN, State
from keyhub.splitadmin import mending, procedure, replication
from orgs.models import Organization
from tenancy.models import Tenant
from tests.factories import SessionFactory, TenantMembershipFactory
from tests.processes import REPOSITORY
from tests.two_databases import TwoDatabases

pytestmark = pytest.mark.database

SETTLED = "Organizations live in the Admin database, and no move is under way.\n"
WHOLE = "The tenant database follows the Admin database, and has what it has."


@pytest.fixture(scope="module")
def shared(make_two_databases) -> Iterator[TwoDatabases]:
    """Two databases, split, for all tests of the module: each ends with the two in agreement."""
    with make_two_databases() as databases:
        databases.split()
        yield databases


@pytest.fixture
def split(shared, digests) -> Iterator[TwoDatabases]:
    yield shared
    placement.forget()
    assert placement.state() == State(ADMIN)
    repaired(*(() if agree(shared, digests) else ("--restored", ADMIN)))
    assert agree(shared, digests)


def agree(databases: TwoDatabases, digests) -> bool:
    copies, homes = digests(databases, "default"), digests(databases, ADMIN)
    empty = copies["organization_domains"][0] == copies["console_sessions"][0] == 0
    return copies["organizations"] == homes["organizations"] and empty


def repaired(*options: str) -> list[str]:
    """What the command tells, line by line."""
    out, told = io.StringIO(), io.StringIO()
    call_command("splitadmin", *(options or ("--repair",)), stdout=out, stderr=told)
    assert out.getvalue() == SETTLED
    return told.getvalue().splitlines()


def refusal(*options: str) -> list[str]:
    with pytest.raises(CommandError) as caught:
        call_command("splitadmin", *(options or ("--repair",)), stdout=io.StringIO(), stderr=io.StringIO())
    assert caught.value.returncode == 1
    return str(caught.value).splitlines()


def organization(name: str, **values) -> Organization:
    return Organization.objects.create(id=name, slug=name.lower(), **{"name": name, **values})


def at(databases: TwoDatabases, alias: str, *statements: str) -> None:
    with databases.connect(alias) as own:
        for statement in statements:
            own.execute(statement)


def in_copy(databases: TwoDatabases, *statements: str) -> None:
    at(databases, "default", "SET keyhub.writes_copies = on", *statements)


FEED = procedure.to_default().name
MISSING = "organizations that were missing or older in the tenant database: 1."
UNSUBSCRIBED = (
    f"ALTER SUBSCRIPTION {FEED} DISABLE",
    f"ALTER SUBSCRIPTION {FEED} SET (slot_name = NONE)",
    f"DROP SUBSCRIPTION {FEED}",
)
DROP_SLOT = """
    DO $$
    DECLARE slot record;
    BEGIN
        FOR slot IN SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = current_database() LOOP
            PERFORM pg_terminate_backend(slot.active_pid, 30000);
            PERFORM pg_drop_replication_slot(slot.slot_name);
        END LOOP;
    END $$
"""


@pytest.mark.parametrize(
    ("faults", "why"),
    [
        ([("default", UNSUBSCRIBED)], "the tenant database has no subscription"),
        ([("default", UNSUBSCRIBED[:1])], "the subscription is disabled"),
        ([("default", UNSUBSCRIBED[:1]), (ADMIN, [DROP_SLOT])], "the Admin database has no slot for it"),
        ([(ADMIN, ["DROP PUBLICATION keyhub_organizations"])], "the Admin database does not publish what it follows"),
        (
            [("default", [f"ALTER SUBSCRIPTION {FEED} SET PUBLICATION another WITH (refresh = false)"])],
            "the subscription is to something else",
        ),
    ],
)
def test_whatever_has_ended_replication(split, digests, faults, why):
    for alias, statements in faults:
        at(split, alias, *statements)
    organization("ORG-MEANWHILE")
    assert repaired() == [
        f"The tenant database follows anew: {why}.",
        MISSING,
    ]
    Organization.objects.filter(pk="ORG-MEANWHILE").update(name="later")
    assert repaired() == [WHOLE]
    assert agree(split, digests)
    Organization.objects.get(pk="ORG-MEANWHILE").delete()


def test_what_does_not_arrive(split, digests, monkeypatch):
    """A row is in the way, and the worker of the server fails again and again."""
    in_copy(split, "INSERT INTO organizations (id, name, slug) VALUES ('ORG-IN-THE-WAY', 'Old', 'in-the-way')")
    organization("ORG-IN-THE-WAY")
    assert repaired() == [
        "The tenant database follows anew: what the Admin database writes does not arrive.",
        MISSING,
    ]
    assert agree(split, digests)
    monkeypatch.setattr(replication, "STALLED_S", 0.5)
    at(split, "default", f"ALTER SUBSCRIPTION {FEED} DISABLE")
    monkeypatch.setattr(mending, "_fault", lambda *_: None)  # whatever else it is that nobody sees
    assert repaired()[0] == "The tenant database follows anew: what the Admin database writes does not arrive."


def test_rows_that_replication_has_passed_by(split, digests):
    """As where the tenant database was recovered to an earlier point in time, with its subscription."""
    at(split, "default", f"ALTER SUBSCRIPTION {FEED} DISABLE")
    organization("ORG-PASSED-BY", settings={"logo": "x" * 3000})
    organization("ORG-OLDER", settings={"logo": "x" * 3000})
    at(split, "default", f"ALTER SUBSCRIPTION {FEED} ENABLE")
    assert repaired() == [WHOLE]
    in_copy(
        split,
        "DELETE FROM organizations WHERE id = 'ORG-PASSED-BY'",
        "ALTER TABLE organizations DISABLE TRIGGER update_organizations_updated_at",
        "UPDATE organizations SET name = 'Older', updated_at = updated_at - interval '1s' WHERE id = 'ORG-OLDER'",
        "UPDATE organizations SET settings = NULL WHERE id = 'ORG-DEFAULT-001'",
        "UPDATE organizations SET settings = '{}' WHERE id = 'ORG-DEFAULT-001'",
        "ALTER TABLE organizations ENABLE TRIGGER update_organizations_updated_at",
    )
    assert repaired() == [
        "The tenant database follows anew: 3 rows are missing there, or older.",
        "organizations that were missing or older in the tenant database: 3.",
    ]
    assert agree(split, digests)


def test_a_suspension_that_arrives_so_late_ends_sessions(split, digests):
    organization("ORG-SUSPENDED")
    repaired()
    membership = TenantMembershipFactory(tenant__organization_id="ORG-SUSPENDED")
    session = SessionFactory(user=membership.user, active_membership_id=membership.pk)
    at(split, "default", *UNSUBSCRIBED)
    assert Organization.objects.get(pk="ORG-SUSPENDED").suspend()
    session.refresh_from_db()
    assert session.active_membership_id == membership.pk
    repaired()
    session.refresh_from_db()
    assert session.active_membership_id is None


def test_what_is_unique_has_gone_from_one_row_to_another(split, digests):
    organization("ORG-A")
    organization("ORG-B")
    repaired()
    at(split, "default", *UNSUBSCRIBED)
    Organization.objects.filter(pk="ORG-B").update(slug="org-c")
    Organization.objects.filter(pk="ORG-A").update(slug="org-b")
    Organization.objects.filter(pk="ORG-B").update(name="behind the other one in the table")
    assert repaired()[1:] == ["organizations that were missing or older in the tenant database: 2."]
    assert agree(split, digests)
    at(split, "default", *UNSUBSCRIBED)
    in_copy(split, "INSERT INTO organizations (id, name, slug) VALUES ('ORG-ALONE', 'Alone', 'org-d')")
    organization("ORG-D")
    assert refusal() == [
        "organizations ORG-D cannot be taken over into the tenant database: Key (slug)=(org-d) already exists. Change "
        "that row there, or the other one, and run this again."
    ]
    with split.connect(ADMIN) as own:
        assert own.execute(
            "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
        ).fetchone() == (0,)
    in_copy(split, "DELETE FROM organizations WHERE id = 'ORG-ALONE'")


def lost_in_the_home(databases: TwoDatabases, *statements: str) -> None:
    """Let the Admin database have forgotten something, as after a restore from last night's backup."""
    at(databases, "default", *UNSUBSCRIBED)
    at(
        databases, ADMIN, DROP_SLOT, "SET keyhub.writes_copies = on",
        "ALTER TABLE organizations DISABLE TRIGGER update_organizations_updated_at", *statements,
        "ALTER TABLE organizations ENABLE TRIGGER update_organizations_updated_at",
    )  # fmt: skip


def test_the_admin_database_is_given_back_what_it_has_lost(split, digests):
    for name in ("ORG-LOST", "ORG-LOST-TOO", "ORG-NEWER"):
        organization(name, settings={"logo": name})
    Organization.objects.get(pk="ORG-NEWER").suspend()
    repaired()
    Tenant.objects.create(organization_id="ORG-LOST", name="T", slug="t")
    before = digests(split, "default")["organizations"]
    lost_in_the_home(
        split,
        "DELETE FROM organizations WHERE id LIKE 'ORG-LOST%'",
        "UPDATE organizations SET status = 'active', updated_at = updated_at - interval '1h' WHERE id = 'ORG-NEWER'",
    )
    assert refusal() == [
        "organizations that the tenant database alone has: ORG-LOST, ORG-LOST-TOO; tenants refers to 1 of them.",
        "organizations that are of later times in the tenant database than in the Admin database: ORG-NEWER.",
        mending.WHICH_IS_RIGHT,
    ]
    assert digests(split, "default")["organizations"] == before
    assert repaired("--restored", ADMIN) == [
        "organizations that are given back to the Admin database: 2 that it lacked, 1 that it had of older times.",
        "The tenant database follows anew: the tenant database has no subscription.",
        "organizations that were missing or older in the tenant database: 0.",
    ]
    assert digests(split, ADMIN)["organizations"] == before


def test_what_was_deleted_since_goes_from_a_restored_tenant_database(split, digests):
    at(split, "default", *UNSUBSCRIBED)
    in_copy(
        split,
        "INSERT INTO organizations (id, name, slug) VALUES ('ORG-GONE', 'Gone', 'gone'), ('ORG-USED', 'Used', 'used')",
    )
    tenant = Tenant.objects.create(organization_id="ORG-USED", name="T", slug="t")
    assert refusal("--restored", "default") == [
        "organizations that were deleted in the Admin database, and to which tenants of the restored tenant database "
        "refers: ORG-USED. Delete what refers to them, or let it refer to others, and run this again."
    ]
    tenant.delete()
    assert repaired("--restored", "default") == [WHOLE]
    assert agree(split, digests)


def test_rows_that_come_while_it_looks_are_not_alone(split, digests):
    """Organizations are made and changed without a pause."""
    stopping = threading.Event()

    def write() -> None:
        with split.connect(ADMIN, "keyhub") as own:
            number = 0
            while not stopping.is_set():
                number += 1
                own.execute(
                    "INSERT INTO organizations (id, name, slug) SELECT 'BUSY-' || n, n, 'busy-' || n "
                    "FROM (SELECT %s::int AS n) AS n",
                    [number],
                )
                own.execute("UPDATE organizations SET name = name || 'x' WHERE id = 'BUSY-1'")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for restored in ((), ("--restored", ADMIN), ("--restored", "default")):
            repaired(*restored)
            at(split, "default", *UNSUBSCRIBED)
            repaired(*restored)
    finally:
        stopping.set()
        writer.join()
    assert repaired() == [WHOLE]
    assert agree(split, digests)


def test_a_tenant_database_of_before_the_move(split, digests):
    """It knows nothing of a move, and has the old rows."""
    at(split, "default", *UNSUBSCRIBED, "DROP TABLE keyhub_split")
    in_copy(
        split, "INSERT INTO organization_domains (organization_id, domain) VALUES ('ORG-DEFAULT-001', 'old.example')"
    )
    with split.connect("default") as tenant:
        for table in ("organizations", "organization_domains", "console_sessions"):
            tenant.execute(f"ALTER TABLE {table} DISABLE TRIGGER refuse_writes_of_copy")
    placement.forget()
    assert refusal("--wait-s", "0") == [
        "the tenant database says that organizations live in the tenant database, and no move is under way, and the "
        "Admin database that organizations live in the Admin database, and no move is under way. Where the tenant "
        "database was restored from a backup of before the move: manage.py splitadmin --restored default lets it "
        "follow again. Stop the site before."
    ]
    assert refusal("--restored", ADMIN) == [
        "there is nothing to repair: organizations live in the tenant database, and no move is under way."
    ]
    assert repaired("--restored", "default") == [
        "organization_domains is empty again in the tenant database: its 1 rows there were of before the move.",
        "The tenant database follows anew: the tenant database has no subscription.",
        "organizations that were missing or older in the tenant database: 0.",
    ]
    with split.connect("default", "keyhub") as tenant, pytest.raises(psycopg.Error) as caught:
        tenant.execute("UPDATE organizations SET name = 'x'")
    assert caught.value.sqlstate == "KH001"


def test_an_admin_database_of_the_time_of_the_move(split, digests):
    """It refuses to be written to, as a copy does."""
    at(split, "default", *UNSUBSCRIBED)
    with split.connect(ADMIN) as admin:
        admin.execute("ALTER TABLE organizations ENABLE TRIGGER refuse_writes_of_copy")
        admin.execute("ALTER TABLE organizations DISABLE TRIGGER refuse_deletion")
        admin.execute("UPDATE keyhub_split SET home = 'default', step = 'following'")
    repaired("--restored", ADMIN)
    organization("ORG-WRITTEN")
    with split.connect(ADMIN, "keyhub") as admin, pytest.raises(psycopg.errors.RestrictViolation):
        admin.execute("DELETE FROM organizations WHERE id = 'ORG-WRITTEN'")
    repaired()


def test_there_is_a_migration_to_run_first(split, digests):
    with split.connect(ADMIN) as admin:
        row = admin.execute(
            "DELETE FROM django_migrations WHERE app = 'orgs' AND name = '0013_copies_refuse_writes' "
            "RETURNING app, name, applied"
        ).fetchone()
        try:
            assert refusal() == [
                "the version 20261126000020_copies_refuse_writes is pending in the Admin database. Run manage.py "
                "migrate first."
            ]
        finally:
            admin.execute("INSERT INTO django_migrations (app, name, applied) VALUES (%s, %s, %s)", row)


def test_a_server_that_lets_nobody_follow(split, manage):
    """As a new one, on which the Admin database was restored, and whose role may nothing yet."""
    at(split, "default", *UNSUBSCRIBED)
    at(split, ADMIN, DROP_SLOT, "DROP PUBLICATION keyhub_organizations")
    environment = split.environment() | {"ADMIN_DATABASE_URL": split.environment("keyhub")["ADMIN_DATABASE_URL"]}
    result = manage("splitadmin", "--repair", **environment)
    assert result.returncode == 1
    assert result.stderr.splitlines()[1] == (
        "CommandError: the server of the database 'admin' lets keyhub make no replication slot. As a superuser: "
        "ALTER ROLE keyhub REPLICATION;"
    )
    environment["ADMIN_DATABASE_URL"] = environment["DATABASE_URL"]
    result = manage("splitadmin", "--repair", **environment)
    assert (result.returncode, result.stderr) == (
        1, "CommandError: ADMIN_DATABASE_URL and DATABASE_URL name the same database. Make another one, and name it.\n",
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.once
def test_killed_before_each_statement_while_others_write(split, digests):
    """A run after a restore of the tenant database, of rows that are older, missing, and moved over in their slugs."""
    for number in range(5):
        organization(f"ORG-{number}")
    repaired()
    at(split, "default", *UNSUBSCRIBED)
    in_copy(split, "DELETE FROM organizations WHERE id = 'ORG-0'")
    Organization.objects.filter(pk="ORG-1").update(slug="org-moved")
    Organization.objects.filter(pk="ORG-2").update(slug="org-1")
    stopping = threading.Event()

    def write() -> None:
        with split.connect(ADMIN, "keyhub") as own:
            number = 0
            while not stopping.is_set():
                number += 1
                own.execute("UPDATE organizations SET name = %s WHERE id IN ('ORG-0', 'ORG-4')", [str(number)])
                own.execute(
                    "INSERT INTO organizations (id, name, slug) VALUES (%s, 'New', %s)",
                    [f"NEW-{number}", f"new-{number}"],
                )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        result = subprocess.run(
            [sys.executable, "-m", "tests.splitadmin.killer", "repair"], cwd=REPOSITORY, text=True, check=False,
            env={**os.environ, **split.environment()}, capture_output=True,
        )  # fmt: skip
    finally:
        stopping.set()
        writer.join()
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["repair"] > 5
    assert repaired() == [WHOLE]
    assert agree(split, digests)
