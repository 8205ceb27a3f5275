"""manage.py splitadmin: its steps and their ways back, what it refuses, and what is so with two databases."""

import re
import time

import pytest
from django.db import IntegrityError, connections, router

from auth_sessions.models import ConsoleSession, Session
from keyhub import placement
from keyhub.embedded import EmbeddedServer
from keyhub.placement import ADMIN, State
from keyhub.splitadmin import procedure
from orgs.copies import NotCopiedError, await_copy
from orgs.models import Organization, OrganizationDomain
from tenancy.models import Tenant
from tests.conftest import database_url
from tests.factories import SessionFactory, TenantMembershipFactory
from tests.failover.pair import run
from tests.test_embedded import temporary_folder

pytestmark = pytest.mark.database

MOVED = "KH001"
LAST_STEP = "The last step, when all is well: manage.py splitadmin --finish. Or: --rollback.\n"


def told(result) -> tuple[int, str, str]:
    return result.returncode, result.stdout, result.stderr


def sqlstate_of(session, statement: str) -> str | None:
    with pytest.raises(Exception) as refused:  # noqa: PT011 its SQLSTATE is asked for
        session.execute(statement)
    return refused.value.sqlstate


def eventually(condition, limit_s: float = 30) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


# What it refuses


@pytest.mark.once
def test_without_a_second_database(manage, migrated_database):
    sentence = (
        "CommandError: there is one database. Set ADMIN_DATABASE_URL to an empty one, on this server or another, for "
        "organizations, their domains and console sessions.\n"
    )
    for way in ([], ["--plan"], ["--finish"], ["--rollback"], ["--back"]):
        assert told(manage("splitadmin", *way, database=migrated_database)) == (1, "", sentence)


def test_both_urls_of_one_database(manage, two_databases):
    environment = two_databases.environment()
    environment["ADMIN_DATABASE_URL"] = environment["DATABASE_URL"]
    result = manage("splitadmin", **environment)
    assert told(result) == (
        1,
        "",
        "CommandError: ADMIN_DATABASE_URL and DATABASE_URL name the same database. Make another one, and name it.\n"
        "the Admin database holds rows of organizations already. Name an empty database by ADMIN_DATABASE_URL, or "
        "empty it where nobody needs them.\n",
    )


@pytest.mark.once
def test_a_pending_version(manage, two_databases, database_at, server):
    old = database_at("orgs", "0012_names_in_words")
    environment = {**two_databases.environment(), "DATABASE_URL": database_url(server, old, user="postgres")}
    assert told(manage("splitadmin", **environment)) == (
        1,
        "",
        "CommandError: the version 20261126000020_copies_refuse_writes is pending. Run manage.py migrate first.\n",
    )


@pytest.mark.once
def test_a_role_without_rights(manage, two_databases):
    result = manage("splitadmin", **two_databases.environment(user="keyhub"))
    lines = []
    for alias in ("default", "admin"):
        what = f"the server of the database {alias!r}"
        lines += [
            f"{what} lets keyhub make no replication slot. As a superuser: ALTER ROLE keyhub REPLICATION;",
            f"{what} does not show keyhub how far replication is. As a superuser: GRANT pg_monitor TO keyhub;",
            f"{what} lets keyhub make no subscription. As a superuser: GRANT pg_create_subscription TO keyhub; "
            f"GRANT CREATE ON DATABASE {two_databases.name(alias)} TO keyhub;",
        ]
    assert told(result) == (1, "", "CommandError: " + "\n".join(lines) + "\n")


@pytest.mark.once
def test_a_server_whose_log_is_for_standbys_alone(manage, two_databases, server):
    with temporary_folder() as folder:
        other = EmbeddedServer(folder / "server", server.bin_directory)
        other.start()
        other.stop()
        options = "-c wal_level=replica -c listen_addresses='' -c unix_socket_directories=.."
        place = ["-D", str(other.data_directory), "-l", str(other.log_file)]
        run(other, "pg_ctl", "start", "--wait", *place, "-o", options)
        try:
            url = f"postgres:///postgres?host={other.socket_directory}&user=postgres"
            result = manage("splitadmin", **{**two_databases.environment(), "ADMIN_DATABASE_URL": url})
        finally:
            other.stop()
    assert told(result) == (
        1,
        "",
        "CommandError: the server of the database 'admin' has wal_level replica. ALTER SYSTEM SET wal_level = logical; "
        "and restart it, which ends its sessions: logical replication needs that in the log.\n",
    )
    assert placement.state() == State()


@pytest.mark.once
@pytest.mark.parametrize("is_split", [False, True])
def test_a_database_that_does_not_answer(manage, two_databases, is_split):
    if is_split:
        two_databases.split()
    environment = {**two_databases.environment(), "ADMIN_DATABASE_URL": "postgres://keyhub@127.0.0.1:1/keyhub"}
    for way in ([], ["--back"], ["--repair"]) if is_split else ([],):
        result = manage("splitadmin", *way, **environment)
        assert (result.returncode, result.stdout) == (3, ""), result.stderr
        assert re.fullmatch(
            r"CommandError: a database cannot be reached: .+ Connection refused .+ Run this again when it answers\.\n",
            result.stderr,
        )


@pytest.mark.once
def test_nothing_to_finish_to_roll_back_or_to_bring_back(manage, two_databases):
    where = "organizations live in the tenant database, and no move is under way"
    environment = two_databases.environment()
    for way, what in (
        ("--finish", f"there is nothing to finish: {where}."),
        ("--rollback", f"there is no move to roll back: {where}."),
        ("--back", f"there is nothing to bring back: {where}."),
    ):
        assert told(manage("splitadmin", way, **environment)) == (1, "", f"CommandError: {what}\n")


def test_another_run_is_under_way(manage, two_databases):
    with two_databases.connect("default") as other:
        from keyhub.migrate.runner_lock import lock_key

        other.execute("SELECT pg_advisory_lock(%s)", [lock_key()])
        result = manage("splitadmin", **two_databases.environment())
    assert result.returncode == 1
    assert "another migrate is at work (server process " in result.stderr
    assert placement.state() == State()


def test_a_copy_that_somebody_has_written_to(two_databases):
    """Nothing depends on the copy before it is compared row by row."""
    with pytest.raises(Exception) as refused:  # noqa: PT011
        _run_with_a_written_copy(two_databases)
    assert str(refused.value) == (
        "the two databases differ, and nothing was changed: organizations: 1 and 2 rows, of which differ ORG-STRAY. "
        "Somebody has written to the copy, or replication is broken: look for it, or manage.py splitadmin --rollback "
        "and begin anew."
    )
    placement.forget()
    assert placement.state() == State("default", "following")
    Organization.objects.create(id="ORG-ACME", name="Acme", slug="acme")  # is served as before
    procedure.rollback(lambda line: None)
    assert placement.state() == State()


def _run_with_a_written_copy(two_databases) -> None:
    def write_once_it_follows(line: str) -> None:
        if line == "The Admin database has the rows, and follows what is written.":
            with two_databases.connect(ADMIN) as admin, admin.transaction():
                admin.execute("SET LOCAL keyhub.writes_copies = on")
                admin.execute("INSERT INTO organizations (id, name, slug) VALUES ('ORG-STRAY', 'Stray', 'stray')")

    procedure.run(write_once_it_follows)


# The steps


def test_the_steps_and_what_is_said(manage, two_databases):
    environment = two_databases.environment()
    plan = [line.split()[1] for line in manage("splitadmin", "--plan", **environment).stdout.splitlines()]
    assert plan == ["next", "then", "then", "then", "then", "then", "then"]
    result = manage("splitadmin", **environment)
    assert (result.returncode, result.stdout) == (
        0,
        f"Organizations live in the Admin database, and a move is under way (reversible).\n{LAST_STEP}",
    )
    lines = result.stderr.splitlines()
    assert lines[0] == "The Admin database has its tables: 19 migrations."
    assert "The Admin database has the rows, and follows what is written." in lines
    assert lines[-1].startswith("Organizations live in the Admin database now. Writers were paused for ")
    plan = [line.split()[1] for line in manage("splitadmin", "--plan", **environment).stdout.splitlines()]
    assert plan == ["done", "done", "done", "done", "done", "next", "then"]
    result = manage("migrate", **environment)
    assert told(result) == (
        1,
        "",
        "CommandError: a move between the databases is under way (reversible), and copies rows as the tables are. End "
        "it (manage.py splitadmin, then manage.py splitadmin --finish), or manage.py splitadmin --rollback.\n",
    )
    assert told(manage("splitadmin", **environment)) == (
        0, f"Organizations live in the Admin database, and a move is under way (reversible).\n{LAST_STEP}", ""
    )  # fmt: skip
    assert told(manage("splitadmin", "--finish", **environment)) == (
        0,
        "Organizations live in the Admin database, and no move is under way.\n",
        "The copies in the tenant database are empty, but for those of organizations, to which its tenants refer.\n",
    )
    assert manage("splitadmin", "--plan", **environment).stdout == (
        "1. next  --back: copy organization_domains and console_sessions into the tenant database again, and follow\n"
        "2. then  pause writers (below a second), take a snapshot of both sides, let writers go on, compare every row\n"
        "3. then  pause writers again (below a second): the tenant database is the home\n"
        "4. then  take away the replication, and empty the tables of the Admin database\n"
    )
    result = manage("splitadmin", "--back", **environment)
    assert (result.returncode, result.stdout) == (
        0, "Organizations live in the tenant database, and no move is under way.\n"
    )  # fmt: skip
    with two_databases.connect("default") as tenant, two_databases.connect(ADMIN) as admin:
        for own in (tenant, admin):
            assert own.execute("SELECT pubname FROM pg_publication").fetchall() == []
            left = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
            assert own.execute(left).fetchone() == (0,)


def test_rolled_back_at_each_step(two_databases, digests):
    """From each step before the last, with a row that was written in it."""
    before = digests(two_databases, "default")["organizations"][0]
    for number, stop in enumerate(("_prepare", "_follow", "_rehearse", "_follow_back")):
        with pytest.MonkeyPatch.context() as patch:
            # As far as to this step, which a kill might have been in.
            patch.setattr(procedure, stop, _killed)
            with pytest.raises(KeyboardInterrupt):
                procedure.run(lambda line: None)
        placement.forget()
        Organization.objects.create(id=f"ORG-{number}", name="N", slug=f"n-{number}")
        procedure.rollback(lambda line: None)
        assert placement.state() == State()
        assert digests(two_databases, "default")["organizations"][0] == before + number + 1
        if number:  # the first has not come to make the tables
            assert [rows for rows, _ in digests(two_databases, ADMIN).values()] == [0, 0, 0]


def _killed(*arguments) -> None:
    raise KeyboardInterrupt


@pytest.mark.once
def test_the_last_step_cannot_be_rolled_back(manage, two_databases):
    two_databases.split(finish=False)
    procedure.note(State(ADMIN, "finishing"))
    environment = two_databases.environment()
    assert told(manage("splitadmin", "--rollback", **environment)) == (
        1,
        "",
        "CommandError: the last step has begun, which cannot be rolled back. End it (manage.py splitadmin --finish), "
        "then manage.py splitadmin --back.\n",
    )
    assert told(manage("splitadmin", **environment)) == (
        1,
        "",
        "CommandError: another way is under way (finishing). Go on with it: manage.py splitadmin --finish.\n",
    )
    assert manage("splitadmin", "--finish", **environment).returncode == 0


@pytest.mark.once
def test_a_new_installation_has_two_databases_at_once(manage, two_databases, empty_database, server):
    environment = {**two_databases.environment(), "DATABASE_URL": database_url(server, empty_database, "postgres")}
    result = manage("migrate", "-v0", **environment)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    try:
        assert told(manage("dbversion", **environment)) == (
            0,
            "default: 20261126000020_copies_refuse_writes (28 of 28)\n"
            "admin: 20261126000020_copies_refuse_writes (28 of 28)\n",
            "",
        )
        with two_databases.connect(ADMIN) as admin:
            assert admin.execute("SELECT id FROM organizations").fetchall() == [("ORG-DEFAULT-001",)]
    finally:
        assert manage("splitadmin", "--back", **environment).returncode == 0


# With two databases


@pytest.mark.once
def test_each_migration_is_recorded_where_it_ran(manage, two_databases):
    two_databases.split()
    with two_databases.connect(ADMIN) as admin, two_databases.connect("default") as tenant:
        recorded = set(admin.execute("SELECT app, name FROM django_migrations"))
        tables = {
            table
            for (table,) in admin.execute(
                "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            )
        }
        everything = set(tenant.execute("SELECT app, name FROM django_migrations"))
    assert tables == {
        "organizations", "organization_domains", "console_sessions", "django_migrations", "keyhub_migrations",
        "keyhub_split",
    }  # fmt: skip
    assert recorded < everything
    assert {app for app, _ in recorded} == {"keyhub", "orgs", "auth_sessions"}
    assert ("orgs", "0003_organization_keys_not_valid") in recorded  # of the key of console_sessions
    assert ("orgs", "0004_fill_late_organizations") not in recorded  # reads tenants
    assert ("auth_sessions", "0009_sessions_membership_triggers") not in recorded
    environment = two_databases.environment()
    result = manage("migrate", **environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("No migrations to apply.") == 2
    assert manage("migrate", "--plan", **environment).stdout == (
        "Database default:\nPlanned operations:\n  No planned migration operations.\n"
        "Database admin:\nPlanned operations:\n  No planned migration operations.\n"
    )
    assert manage("migrate", "--check", **environment).returncode == 0
    assert manage("schemadoc", "--check", **environment).stdout == "docs/schema.md is current.\n"
    assert told(manage("migrate", "--down", "1", "--yes", **environment)) == (
        1,
        "",
        "CommandError: the Admin database is one of its own, and that version knows of none. Go back to one database "
        "first: manage.py splitadmin --back.\n",
    )


@pytest.mark.once
def test_a_migration_changes_rows_where_they_are_written(two_databases):
    """And tables where they are."""
    update, alter = "UPDATE console_sessions SET id = id", "ALTER TABLE console_sessions ADD COLUMN x text"
    of_tenants = "UPDATE organizations SET name = slug WHERE id IN (SELECT organization_id FROM tenants)"
    rows = {"model_name": "consolesession"}  # hints of RunPython and RunSQL

    def where(statement: str) -> list[str]:
        return [alias for alias in ("default", ADMIN) if placement.runs(alias, "auth_sessions", statement)]

    def where_python() -> list[str]:
        return [alias for alias in ("default", ADMIN) if router.allow_migrate(alias, "auth_sessions", **rows)]

    assert (where(update), where_python()) == (["default"], ["default"])
    two_databases.split()
    assert (where(update), where_python()) == ([ADMIN], [ADMIN])
    assert where(alter) == ["default", ADMIN]
    assert where(of_tenants) == ["default"]
    assert router.allow_migrate(ADMIN, "auth_sessions") is False


def test_copies_are_not_written(two_databases):
    two_databases.split()
    insert = "INSERT INTO organizations (id, name, slug) VALUES ('ORG-ACME', 'Acme', 'acme')"
    with two_databases.connect("default", "postgres") as tenant, two_databases.connect(ADMIN) as admin:
        assert sqlstate_of(tenant, insert) == MOVED
        assert sqlstate_of(tenant, "UPDATE organizations SET name = 'x'") == MOVED
        assert sqlstate_of(tenant, "DELETE FROM console_sessions") == MOVED
        assert sqlstate_of(tenant, "TRUNCATE organization_domains") == MOVED
        admin.execute(insert)
        assert eventually(lambda: tenant.execute("SELECT FROM organizations WHERE id = 'ORG-ACME'").rowcount == 1)
        tenant.execute("INSERT INTO tenants (organization_id, name, slug) VALUES ('ORG-ACME', 'Lab', 'lab')")
        unknown = "INSERT INTO tenants (organization_id, name, slug) VALUES ('ORG-NONE', 'Lab', 'lab')"
        assert sqlstate_of(tenant, unknown) == "23503"  # the key is a real one
        assert sqlstate_of(admin, "DELETE FROM organizations WHERE id = 'ORG-ACME'") == "23001"


def test_woken_by_mistake_where_there_is_one_database(server, migrated_database):
    """As pg_restore --disable-triggers leaves them."""
    with server.connect(migrated_database, "keyhub") as own:
        for table in ("organizations", "organization_domains", "console_sessions"):
            own.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        own.execute("INSERT INTO organizations (id, name, slug) VALUES ('ORG-ACME', 'Acme', 'acme')")
        assert own.execute("DELETE FROM organizations WHERE id = 'ORG-ACME'").rowcount == 1


def test_an_organization_with_tenants_is_not_deleted(two_databases):
    two_databases.split()
    acme = Organization.objects.create(id="ORG-ACME", name="Acme", slug="acme")
    await_copy(acme)
    tenant = Tenant.objects.create(organization_id=acme.pk, name="Lab", slug="lab")
    for delete in (acme.delete, Organization.objects.filter(pk=acme.pk).delete):
        with pytest.raises(IntegrityError, match="tenants_organization_id_fkey"):
            delete()
        assert Organization.objects.filter(pk=acme.pk).exists()
    tenant.delete()
    acme.delete()
    for alias in ("default", ADMIN):
        assert not Organization.objects.using(alias).filter(id="ORG-ACME").exists()
    # The escape is the transaction's alone.
    with two_databases.connect("default") as session:
        assert sqlstate_of(session, "DELETE FROM organizations") == MOVED


def test_a_suspension_reaches_the_sessions_of_tenants(two_databases):
    two_databases.split()
    acme = Organization.objects.create(id="ORG-ACME", name="Acme", slug="acme")
    await_copy(acme)
    member = TenantMembershipFactory(tenant__organization_id=acme.pk)
    session = SessionFactory(user=member.user, active_membership=member)
    console, _ = ConsoleSession.objects.start(acme.pk)
    assert console._state.db == ADMIN
    assert acme.suspend()
    assert not ConsoleSession.objects.filter(pk=console.pk).exists()
    assert eventually(lambda: Session.objects.get(pk=session.pk).active_membership_id is None)
    with pytest.raises(IntegrityError, match="The organization is suspended"):
        Session.objects.filter(pk=session.pk).update(active_membership=member)
    assert acme.resume()
    assert eventually(lambda: Organization.objects.using("default").get(pk=acme.pk).status == "active")


@pytest.mark.once
def test_a_copy_that_does_not_come(two_databases):
    two_databases.split()
    with two_databases.connect("default") as tenant:
        tenant.execute("ALTER SUBSCRIPTION keyhub_to_default DISABLE")
        acme = Organization.objects.create(id="ORG-ACME", name="Acme", slug="acme")
        with pytest.raises(NotCopiedError) as refused:
            await_copy(acme, timeout_s=0.1)
        assert str(refused.value) == (
            "The tenant database has not heard of the organization ORG-ACME in 0.1 seconds. Look at manage.py "
            "dbhealth, and try again."
        )
        tenant.execute("ALTER SUBSCRIPTION keyhub_to_default ENABLE")
    await_copy(acme, timeout_s=30)


@pytest.mark.once
def test_rows_are_read_and_written_in_their_home(two_databases):
    two_databases.split()
    acme = Organization.objects.create(id="ORG-ACME", name="Acme", slug="acme")
    OrganizationDomain.objects.create(organization=acme, domain="acme.example")
    assert OrganizationDomain.objects.get().organization._state.db == ADMIN
    assert OrganizationDomain.objects.filter(organization__name="Acme").count() == 1
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM organization_domains")
        assert cursor.fetchone() == (0,)


@pytest.mark.once
def test_purgeexpired_deletes_where_rows_live(manage, two_databases):
    two_databases.split()
    with two_databases.connect(ADMIN) as admin:
        admin.execute(
            "INSERT INTO console_sessions (session_id, organization_id, expires_at) VALUES "
            "(repeat('a', 64), 'ORG-DEFAULT-001', statement_timestamp() - interval '1 hour')"
        )
    result = manage("purgeexpired", **two_databases.environment())
    assert told(result) == (
        0,
        "sessions: 0 rows deleted\noauth_states: 0 rows deleted\nconsole_sessions: 1 row deleted\n",
        "",
    )
