"""dbhealth of two databases: both are healthy, and each fault of either is told, mended by what it says, and gone."""

import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from xml.etree import ElementTree

import psycopg
import pytest
from django.core.management import call_command
from django.db import connections
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse

from keyhub.dbbackup import measure
from keyhub.dbbackup.sessions import open_session
from keyhub.dbhealth import aside, databases, server
from keyhub.dbhealth.examination import Selection
from keyhub.dbhealth.findings import Finding, Report
from keyhub.placement import ADMIN, State
from keyhub.probes import middleware
from keyhub.splitadmin import procedure, record, replication
from tests.factories import OperatorFactory
from tests.two_databases import TwoDatabases

pytestmark = pytest.mark.database

WRITES_COPIES = "SET keyhub.writes_copies = on"
SUPERUSER = "postgres"
PATIENCE_S = 30
SLOT = "SELECT slot_name FROM pg_replication_slots WHERE database = %s"


@pytest.fixture(scope="module")
def split(make_two_databases) -> Iterator[TwoDatabases]:
    """An Admin database of its own, which all tests share: each leaves it as it was."""
    with make_two_databases() as both:
        both.split()
        yield both


@pytest.fixture
def run(split) -> Callable[[str], None]:
    """Run SQL in a database, as the owner of the tables."""

    def run(alias: str, *statements: str, user: str = "keyhub") -> None:
        with split.connect(alias, user) as own:
            for statement in statements:
                own.execute(statement)

    return run


def reports(data: bool = False, only: set[str] | None = None) -> list[Report]:
    return databases.run_everywhere(Selection(only=frozenset(only or ()), data=data))


def found(**selection) -> list[tuple[str, str, str, str]]:
    return [
        (report.database, finding.severity, f"{finding.id} {finding.object}", finding.problem)
        for report in reports(**selection)
        for finding in report.findings
    ]


def findings(**selection) -> list[Finding]:
    return [finding for report in reports(**selection) for finding in report.findings]


@pytest.fixture
def mend(run) -> Callable[..., None]:
    """Run the mend of the one finding of a run."""

    def mend(alias: str, user: str = "keyhub", **selection) -> None:
        (finding,) = findings(**selection)
        text = finding.mend
        if text.startswith("manage.py splitadmin"):
            call_command(*text.splitlines()[0].split()[1:], stdout=Silent(), stderr=Silent())
        else:
            run(alias, text, user=user)

    return mend


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def come_to_be_told(told: list[tuple[str, str, str, str]], meanwhile: Callable[[], object] = lambda: None) -> None:
    """Wait until a run finds just this."""
    deadline = time.monotonic() + PATIENCE_S
    while (now := found()) != told and time.monotonic() < deadline:
        meanwhile()
        time.sleep(0.05)
    assert now == told


@pytest.fixture
def impatient(monkeypatch) -> None:
    """Who knows that something is gone does not wait for it."""
    monkeypatch.setattr(aside, "GRACE_S", 0.1)


class Silent:
    def write(self, text: str) -> None:
        pass


# What it prints


def test_both_are_told_of(manage, split):
    result = manage("dbhealth", "--data", **split.environment())
    assert (result.returncode, result.stdout, result.stderr) == (0, "default: healthy\nadmin: healthy\n", "")
    result = manage("dbhealth", "--database", "admin", **split.environment())
    assert (result.returncode, result.stdout, result.stderr) == (0, "admin: healthy\n", "")


@pytest.mark.once
def test_what_machines_read_of_both(run):
    def printed(form: str) -> str:
        output = io.StringIO()
        with pytest.raises(SystemExit) as ended:
            call_command("dbhealth", "--format", form, stdout=output)
        assert ended.value.code == 1
        return output.getvalue()

    run(ADMIN, "CREATE TABLE unordered ()")
    run("default", "CREATE INDEX unordered ON tenants (name)")
    told = [json.loads(line) for line in printed("json").splitlines()]
    assert [(each["database"], each["findings"][0]["object"]) for each in told] == [
        ("default", "tenants.unordered"),
        ("admin", "unordered"),
    ]
    root = ElementTree.fromstring(printed("junit"))  # noqa: S314 our own
    assert (root.tag, root.attrib["failures"]) == ("testsuites", "2")
    assert [suite.attrib["name"] for suite in root] == ["dbhealth default", "dbhealth admin"]
    assert [line.split("%0A")[0] for line in printed("github").splitlines()] == [
        "::warning title=keyhub.H003 tenants.unordered::no migration made this index (definition btree (name))",
        "default: 1 warning",
        "::warning title=keyhub.H002 unordered::no migration made this table",
        "admin: 1 warning",
    ]
    text = printed("openmetrics")
    assert text.count("# TYPE") == 5
    assert re.findall(r'^keyhub_dbhealth_findings\{.*"warning"\} \d', text, re.MULTILINE) == [
        'keyhub_dbhealth_findings{database="default",severity="warning"} 1',
        'keyhub_dbhealth_findings{database="admin",severity="warning"} 1',
    ]
    run(ADMIN, "DROP TABLE unordered")
    run("default", "DROP INDEX unordered")
    assert found() == []


@pytest.mark.once
def test_one_is_told_of_where_the_other_cannot_be_asked(manage, split):
    environment = split.environment()
    nowhere = environment["DATABASE_URL"].replace(split.tenant, "keyhub_of_nobody")
    why = 'connection failed: .* FATAL: +database "keyhub_of_nobody" does not exist'

    result = manage("dbhealth", **environment | {"ADMIN_DATABASE_URL": nowhere})
    assert result.returncode == 3
    assert re.fullmatch(
        rf"skipped keyhub\.H061 the Admin database: it cannot be asked: {why}\n"
        "    start it, or correct ADMIN_DATABASE_URL\ndefault: healthy, 1 skipped\n",
        result.stdout,
    )
    assert re.fullmatch(rf"CommandError: the database 'admin' could not be checked: {why}\n", result.stderr)
    result = manage("dbhealth", "--data", "--only", "keyhub.H068", **environment | {"ADMIN_DATABASE_URL": nowhere})
    assert re.fullmatch(
        rf"skipped keyhub\.H068 the rows of both databases: they cannot be compared: {why}\n"
        "    manage.py dbhealth --database admin\ndefault: healthy, 1 skipped\n",
        result.stdout,
    )

    result = manage("dbhealth", **environment | {"DATABASE_URL": nowhere})
    assert (result.returncode, result.stdout) == (3, "admin: healthy\n")
    assert re.fullmatch(rf"CommandError: the database 'default' could not be checked: {why}\n", result.stderr)

    result = manage("dbhealth", **environment | {"DATABASE_URL": nowhere, "ADMIN_DATABASE_URL": nowhere})
    assert (result.returncode, result.stdout) == (3, "")
    assert [line.split(" could")[0] for line in result.stderr.splitlines()] == [
        "CommandError: the database 'default'",
        "the database 'admin'",
    ]


def test_a_monitor_needs_no_more_than_pg_monitor(manage, split, run):
    role = f"{split.tenant}_monitor"
    run("default", f"CREATE ROLE {role} LOGIN IN ROLE pg_monitor", user=SUPERUSER)
    try:
        environment = split.environment(user=role)
        result = manage("dbhealth", "--skip", "keyhub.H020", **environment)
        assert (result.returncode, result.stdout, result.stderr) == (0, "default: healthy\nadmin: healthy\n", "")
        result = manage("dbhealth", "--data", "--only", "keyhub.H068", **environment)
        assert result.stdout == (
            f"skipped keyhub.H068 organizations: the role {role} may not read it in the Admin database\n"
            f"    -- In the Admin database:\n    GRANT SELECT ON organizations TO {role};\n"
            f"skipped keyhub.H068 organizations: the role {role} may not read it in the tenant database\n"
            f"    -- In the tenant database:\n    GRANT SELECT ON organizations TO {role};\n"
            "default: healthy, 2 skipped\nadmin: healthy\n"
        )
        run("default", "REVOKE SELECT ON keyhub_split FROM PUBLIC", user=SUPERUSER)
        result = manage("dbhealth", "--skip", "keyhub.H020", **environment)
        assert (result.returncode, result.stdout) == (
            0,
            f"skipped keyhub.H060 keyhub_split: the role {role} may not read it\n"
            f"    GRANT SELECT ON keyhub_split TO {role};\n"
            "default: healthy, 1 skipped\nadmin: healthy\n",
        )
    finally:
        run("default", "GRANT SELECT ON keyhub_split TO PUBLIC", f"DROP ROLE {role}", user=SUPERUSER)


# Who else asks


@pytest.mark.once
def test_probes(split, run, monkeypatch, settings):
    """/metrics tells of both; a process is ready without the Admin database, since it serves most pages."""
    settings.METRICS_TOKEN = "a-token-of-at-least-thirty-two-characters"
    monkeypatch.setattr(middleware, "METRICS_LIFETIME_S", 0)
    probes = middleware.Probes(lambda request: HttpResponse("a page"))
    headers = {"Authorization": f"Bearer {settings.METRICS_TOKEN}"}

    def ask(path: str) -> HttpResponse:
        return probes(RequestFactory().get(path, headers=headers))

    def critical() -> list[str]:
        return re.findall(
            r'^keyhub_dbhealth_findings\{database="(.*)",severity="critical"\} (\d)$', text(), re.MULTILINE
        )

    def text() -> str:
        return ask("/metrics").text

    run(ADMIN, "DROP INDEX idx_console_sessions_active")
    assert critical() == [("default", "0"), ("admin", "1")]
    run(ADMIN, findings()[0].mend)
    assert json.loads(ask("/readyz").text) == {"status": "ready"}

    monkeypatch.setitem(connections.settings[ADMIN], "NAME", "keyhub_of_nobody")
    monkeypatch.setattr(probes, "_metrics", middleware.Metrics())
    assert critical() == [("default", "0")]
    assert 'keyhub_dbhealth_skipped{database="default"} 1' in text()
    assert json.loads(ask("/readyz").text) == {"status": "ready"}
    probes._readiness._examiner._close()


@pytest.mark.once
def test_the_start_page(split, run, monkeypatch):
    def looked_at() -> str:
        return operator.post(reverse("health")).text

    operator = Client()
    operator.force_login(OperatorFactory(is_superuser=True))
    assert "Healthy." in looked_at()
    run(ADMIN, "DROP INDEX idx_console_sessions_active")
    text = looked_at()
    assert "1 finding." in text
    assert re.search(r"<td[^>]*>\s*admin\s*</td>", text)
    run(ADMIN, findings()[0].mend)
    connections[ADMIN].close()
    monkeypatch.setitem(connections.settings[ADMIN], "NAME", "keyhub_of_nobody")
    text = looked_at()
    assert "The database could not be looked at: admin: connection failed: " in text
    assert "Healthy." in text


# The schema of each


@pytest.mark.once
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (
            "ALTER TABLE organization_domains DROP COLUMN last_checked_at",
            (
                "critical",
                "keyhub.H009 organization_domains.last_checked_at",
                "the column does not exist, although an applied migration makes it",
            ),
        ),
        (
            "ALTER TABLE organization_domains DISABLE TRIGGER clear_organization_domains_verification",
            (
                "critical",
                "keyhub.H010 organization_domains.clear_organization_domains_verification",
                "the trigger is disabled: it does nothing",
            ),
        ),
        (
            "ALTER TABLE organizations ENABLE TRIGGER end_sessions_of_organizations",
            (
                "critical",
                "keyhub.H010 organizations.end_sessions_of_organizations",
                "its enabled is not there, and should be always",
            ),
        ),
        (
            "DROP TABLE console_sessions",
            (
                "critical",
                "keyhub.H002 console_sessions",
                "the table does not exist, although an applied migration makes it",
            ),
        ),
        (
            "CREATE TABLE users ()",
            (
                "warning",
                "keyhub.H008 users",
                "the table of accounts.User is here, and the router puts it into another database",
            ),
        ),
        ("CREATE TABLE unordered ()", ("warning", "keyhub.H002 unordered", "no migration made this table")),
        (
            "CREATE OR REPLACE FUNCTION refuse_write_of_copy() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RETURN NULL; END$$",
            ("critical", "keyhub.H011 refuse_write_of_copy()", "its definition is not what the code says"),
        ),
    ],
)
def test_a_fault_in_the_schema_of_the_admin_database(run, mend, fault, told):
    run(ADMIN, fault)
    assert found() == [(ADMIN, *told)]
    mend(ADMIN)
    assert found() == []


@pytest.mark.once
def test_a_pending_migration_of_the_admin_database(manage, split, mend):
    environment = split.environment(user="keyhub")
    back = manage("migrate", "--database", "admin", "orgs", "0012", "-v0", "--yes", **environment)
    assert (back.returncode, back.stderr) == (0, "")
    assert found() == [
        (
            ADMIN,
            "critical",
            "keyhub.H001 django_migrations",
            "1 migration is pending: orgs.0013_copies_refuse_writes",
        )
    ]
    assert reports()[1].notes == ["drift is measured against the migrations that are applied"]
    assert manage("migrate", "-v0", **environment).returncode == 0
    # The migration lets the triggers sleep.
    assert [what for _, _, what, _ in found()] == ["keyhub.H010 organizations.refuse_deletion"]
    mend(ADMIN)
    assert found() == []


@pytest.mark.once
@pytest.mark.parametrize(
    ("alias", "table", "trigger", "switch", "problem"),
    [
        (
            "default",
            "organizations",
            "refuse_writes_of_copy",
            "DISABLE",
            "the trigger is disabled: it does nothing",
        ),
        (
            "default",
            "organizations",
            "refuse_deletion",
            "ENABLE",
            "the trigger is enabled, and must not be in this database",
        ),
        (
            ADMIN,
            "console_sessions",
            "refuse_writes_of_copy",
            "ENABLE",
            "the trigger is enabled, and must not be in this database",
        ),
        (ADMIN, "organizations", "refuse_deletion", "DISABLE", "the trigger is disabled: it does nothing"),
    ],
)
def test_who_may_write_follows_from_where_the_rows_live(run, mend, alias, table, trigger, switch, problem):
    run(alias, f"ALTER TABLE {table} {switch} TRIGGER {trigger}")
    assert found() == [(alias, "critical", f"keyhub.H010 {table}.{trigger}", problem)]
    (finding,) = findings()
    other = {"ENABLE": "DISABLE", "DISABLE": "ENABLE"}[switch]
    assert finding.mend == f"ALTER TABLE {table} {other} TRIGGER {trigger};"
    mend(alias)
    assert found() == []


@pytest.mark.once
def test_a_role_that_subscribes_may_create_in_the_database(split, run, mend):
    run(
        ADMIN,
        f"ALTER DATABASE {split.admin} OWNER TO postgres",
        f"GRANT CREATE ON DATABASE {split.admin} TO keyhub",
        user=SUPERUSER,
    )
    assert found() == []
    run(
        ADMIN,
        f"ALTER DATABASE {split.admin} OWNER TO keyhub",
        f"GRANT CREATE ON DATABASE {split.admin} TO postgres",
        user=SUPERUSER,
    )
    assert [(severity, what) for _, severity, what, _ in found()] == [
        ("warning", "keyhub.H015 database this to postgres")
    ]
    mend(ADMIN, SUPERUSER)
    assert found() == []


@pytest.mark.once
def test_what_a_backup_is_told_of_each(run):
    run(ADMIN, "DROP INDEX idx_console_sessions_active")
    told = [
        "keyhub.H003 console_sessions.idx_console_sessions_active: the index does not exist, although an applied "
        "migration makes it"
    ]
    connections["restored"] = open_session(connections[ADMIN], alias="restored")
    try:
        assert measure.unhealthy(ADMIN) == measure.unhealthy("restored", ADMIN) == told
        run(ADMIN, findings()[0].mend)
        assert measure.unhealthy(ADMIN) == measure.unhealthy("restored", ADMIN) == measure.unhealthy("default") == []
    finally:
        connections["restored"].close()
        del connections["restored"]


# Who knows where the rows are


@pytest.mark.once
def test_who_knows_of_one_database_alone(manage, split):
    result = manage("dbhealth", **split.environment() | {"ADMIN_DATABASE_URL": ""})
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout == (
        "CRITICAL keyhub.H060 ADMIN_DATABASE_URL: it is not set, although organizations live in the Admin database, "
        "and no move is under way: who does without it reads copies, and may not write them\n"
        "    set ADMIN_DATABASE_URL, wherever DATABASE_URL names this database\n"
        "default: 1 critical\n"
    )


@pytest.mark.once
def test_the_two_say_different_things(run, mend, impatient):
    run(ADMIN, "UPDATE keyhub_split SET home = 'default'")
    assert found() == [
        (
            "default",
            "critical",
            "keyhub.H061 keyhub_split",
            "the tenant database, whose word counts, says that organizations live in the Admin database, and no move "
            "is under way; the Admin database says that organizations live in the tenant database, and no move is "
            "under way",
        )
    ]
    mend(ADMIN)
    assert found() == []


@pytest.mark.once
def test_the_tenant_database_is_from_before_the_move(run, impatient):
    """As where it was restored from an old backup; then its word is not to be trusted blindly."""
    run("default", "DELETE FROM keyhub_split")
    (finding,) = findings(only={"keyhub.H061"})
    assert finding.problem.startswith(
        "the tenant database, whose word counts, says that organizations live in the tenant"
    )
    assert finding.mend == (
        "-- If the tenant database was restored from a backup of before the move:\n"
        "manage.py splitadmin --restored default\n"
        "-- If all rows are in the tenant database, in the Admin database:\n"
        "UPDATE keyhub_split SET home = 'default', step = 'settled';"
    )
    call_command("splitadmin", "--restored", "default", stdout=Silent(), stderr=Silent())
    assert found() == []
    record.note(State())
    run(ADMIN, "UPDATE keyhub_split SET home = 'admin'")
    run(ADMIN, findings(only={"keyhub.H061"})[0].mend.splitlines()[-1])
    assert found(only={"keyhub.H061"}) == []
    record.note(State(ADMIN))
    assert found() == []


# Replication


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (
            "DROP PUBLICATION keyhub_organizations",
            "the publication does not exist: the database 'default' does not hear of organizations",
        ),
        (
            "ALTER PUBLICATION keyhub_organizations SET (publish = 'insert')",
            "the publication tells insert of organizations, and should tell insert, update of organizations",
        ),
        (
            "ALTER PUBLICATION keyhub_organizations ADD TABLE console_sessions",
            "the publication tells insert, update of console_sessions, organizations, and should tell insert, update "
            "of organizations",
        ),
        (
            "ALTER PUBLICATION keyhub_organizations SET TABLE organizations WHERE (id <> '')",
            "the publication tells insert, update of parts of tables, and should tell insert, update of organizations",
        ),
    ],
)
def test_a_publication(run, mend, fault, problem):
    run(ADMIN, fault, user=SUPERUSER)
    assert found(only={"keyhub.H063"}) == [(ADMIN, "critical", "keyhub.H063 keyhub_organizations", problem)]
    # PostgreSQL up to 17 does not get over a change that was made without its publication.
    run(ADMIN, "UPDATE organizations SET name = name || '!'")
    mend(ADMIN, only={"keyhub.H063"})
    assert found(data=True) == []


def test_a_slot_that_is_gone(split, run, mend, impatient):
    with split.connect(ADMIN) as own:
        (slot,) = own.execute(SLOT, [split.admin]).fetchone()
    run("default", "ALTER SUBSCRIPTION keyhub_to_default DISABLE", user=SUPERUSER)
    wait_until(lambda: drop_slot(split, slot))
    run("default", "ALTER SUBSCRIPTION keyhub_to_default ENABLE", user=SUPERUSER)
    told = [
        (
            "default",
            "critical",
            "keyhub.H065 keyhub_to_default",
            "its worker does not run, so that nothing comes here from the database 'admin'; the server's log tells "
            "why: it may not reach that database, or have no worker left (max_logical_replication_workers)",
        ),
        (
            ADMIN,
            "critical",
            "keyhub.H064 keyhub_to_default",
            "the replication slot does not exist: what is written here never comes to the database 'default'",
        ),
    ]
    come_to_be_told(told)  # the server begins the worker anew, each time for a moment
    mend(ADMIN, only={"keyhub.H064"})
    assert found() == []


def drop_slot(split: TwoDatabases, slot: str) -> bool:
    with split.connect(ADMIN) as own:
        query = (
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active AND slot_name = %s"
        )
        return own.execute(query, [slot]).rowcount == 1


def test_a_slot_that_holds_much_back(split, monkeypatch):
    monkeypatch.setitem(server.LIMITS, "slot_bytes", -1)
    ((alias, severity, what, problem),) = found()
    assert (alias, severity) == (ADMIN, "warning")
    assert re.fullmatch(r"keyhub\.H064 keyhub_to_default_\d+", what)
    assert re.fullmatch(r"the slot holds \d MB of WAL back", problem)


def test_a_subscription_that_is_disabled(run, mend, impatient):
    run("default", "ALTER SUBSCRIPTION keyhub_to_default DISABLE", user=SUPERUSER)
    disabled, unread = found()
    assert disabled == (
        "default",
        "critical",
        "keyhub.H065 keyhub_to_default",
        "the subscription is disabled: what is written in the database 'admin' does not come here",
    )
    assert unread[:2] == (ADMIN, "critical")
    assert re.fullmatch(r"keyhub\.H064 keyhub_to_default_\d+", unread[2])
    assert re.fullmatch(r"nobody reads the slot, and it holds \d+ MB of WAL back", unread[3])
    mend("default", SUPERUSER, only={"keyhub.H065"})
    assert found() == []


def test_a_subscription_that_is_gone(run, mend, impatient):
    run(
        "default",
        "ALTER SUBSCRIPTION keyhub_to_default DISABLE",
        "ALTER SUBSCRIPTION keyhub_to_default SET (slot_name = NONE)",
        "DROP SUBSCRIPTION keyhub_to_default",
        user=SUPERUSER,
    )
    assert [line[2].split("_default")[0] for line in found()] == ["keyhub.H065 keyhub_to", "keyhub.H064 keyhub_to"]
    assert found(only={"keyhub.H065"})[0][3] == (
        "the subscription does not exist: nothing that is written in the database 'admin' comes here"
    )
    mend("default", only={"keyhub.H065"})
    assert found() == []


@pytest.mark.once
def test_a_subscription_that_reaches_nobody(run, mend, impatient, monkeypatch):
    """As after a change of the password, which a repair reads from ADMIN_DATABASE_URL."""
    run("default", "ALTER SUBSCRIPTION keyhub_to_default CONNECTION 'host=/nowhere dbname=nothing'", user=SUPERUSER)
    wait_until(lambda: len(found(only={"keyhub.H065"})) == 1)
    assert found(only={"keyhub.H065"})[0][3].startswith("its worker does not run, so that nothing comes here")
    monkeypatch.setattr(replication, "STALLED_S", 1)
    mend("default", only={"keyhub.H065"})
    assert found() == []


def test_a_subscription_of_the_same_name_in_another_database(split, run, empty_database, impatient, monkeypatch):
    """A server may have several tenant databases: the worker of one hides nothing of another."""
    run(
        ADMIN,
        "CREATE PUBLICATION nothing",
        "SELECT pg_create_logical_replication_slot('of_another', 'pgoutput')",
        user=SUPERUSER,
    )
    subscribed = "SELECT FROM pg_stat_subscription WHERE subname = 'keyhub_to_default' AND received_lsn IS NOT NULL"
    with split.server.connect(empty_database) as other:
        other.execute(
            f"CREATE SUBSCRIPTION keyhub_to_default CONNECTION 'host={split.server.socket_directory} user=postgres "
            f"dbname={split.admin}' PUBLICATION nothing WITH (create_slot = false, slot_name = of_another, "
            "copy_data = false)"
        )
        with split.connect("default") as own:
            own.execute("ALTER SUBSCRIPTION keyhub_to_default CONNECTION 'host=/nowhere dbname=nothing'")
            wait_until(lambda: other.execute(subscribed).rowcount == 1)
        try:
            wait_until(lambda: len(found(only={"keyhub.H065"})) == 1)
        finally:
            other.execute("DROP SUBSCRIPTION keyhub_to_default")
            run(ADMIN, "DROP PUBLICATION nothing", user=SUPERUSER)
            monkeypatch.setattr(replication, "STALLED_S", 1)
            call_command("splitadmin", "--repair", stdout=Silent(), stderr=Silent())
    assert found() == []


def test_a_subscription_that_follows_something_else(run, mend):
    run(ADMIN, "CREATE PUBLICATION keyhub_moved FOR TABLE organization_domains", user=SUPERUSER)
    add = "ALTER SUBSCRIPTION keyhub_to_default ADD PUBLICATION keyhub_moved WITH (refresh = false)"
    run("default", add, user=SUPERUSER)
    assert found() == [
        (
            "default",
            "critical",
            "keyhub.H065 keyhub_to_default",
            "it follows keyhub_moved, keyhub_organizations, and should follow keyhub_organizations: what is written "
            "in the database 'admin' does not come here",
        ),
        (
            ADMIN,
            "warning",
            "keyhub.H069 keyhub_moved",
            "the publication is left over from a move that has ended",
        ),
    ]
    mend("default", only={"keyhub.H065"})
    mend(ADMIN, SUPERUSER, only={"keyhub.H069"})
    assert found() == []


def test_a_table_that_is_not_followed(run, mend):
    run(ADMIN, "ALTER PUBLICATION keyhub_organizations DROP TABLE organizations", user=SUPERUSER)
    run("default", "ALTER SUBSCRIPTION keyhub_to_default REFRESH PUBLICATION", user=SUPERUSER)
    run(ADMIN, "ALTER PUBLICATION keyhub_organizations ADD TABLE organizations", user=SUPERUSER)
    assert found() == [
        (
            "default",
            "critical",
            "keyhub.H065 keyhub_to_default",
            "it does not follow organizations: what is written in the database 'admin' does not come here",
        )
    ]
    mend("default")
    assert found() == []


def test_what_cannot_be_applied(manage, split, run, mend):
    """And what could not, once: a count of long ago is no finding."""
    conflicting = "INSERT INTO organizations (id, name, slug) VALUES ('{0}', '{1}', '{0}-{1}')"
    run("default", WRITES_COPIES, conflicting.format("there", "copy"))
    run(ADMIN, conflicting.format("there", "origin"))
    wait_until(lambda: failures(split) > 0)
    ((alias, severity, what, problem),) = found(only={"keyhub.H067"})
    assert (alias, severity, what) == ("default", "critical", "keyhub.H067 keyhub_to_default")
    conflicts = r" \(conflicts: insert_exists \d+\)" if connections[ADMIN].pg_version >= 180000 else ""
    assert re.fullmatch(
        rf"its worker has failed \d+ times{conflicts}, and does not go on; the log of the server tells why", problem
    )
    alone = split.environment() | {"ADMIN_DATABASE_URL": ""}
    told = manage("dbhealth", "--only", "keyhub.H067", **alone).stdout.splitlines()
    assert (told[0].split(":")[0], told[-1]) == ("CRITICAL keyhub.H067 keyhub_to_default", "default: 1 critical")
    mend("default", only={"keyhub.H067"})
    assert found(data=True) == []

    run("default", WRITES_COPIES, conflicting.format("again", "copy"))
    run(ADMIN, conflicting.format("again", "origin"))
    wait_until(lambda: failures(split) > 0)
    run("default", WRITES_COPIES, "DELETE FROM organizations WHERE id = 'again'")
    wait_until(lambda: found(data=True) == [])
    assert failures(split) > 0


def failures(split: TwoDatabases) -> int:
    with split.connect("default") as own:
        return procedure.Feed("keyhub_to_default", ()).errors(own)


def test_changes_of_rows_that_are_not_there(run, mend):
    """PostgreSQL 18 counts them; --data tells of the rows in any case."""
    run(ADMIN, "INSERT INTO organizations (id, name, slug) VALUES ('lost', 'Lost', 'lost'), ('here', 'Here', 'here')")
    wait_until(lambda: reports(**ROWS)[0].skipped == [])
    run("default", WRITES_COPIES, "DELETE FROM organizations WHERE id = 'lost'")
    run(ADMIN, "UPDATE organizations SET name = 'Still lost' WHERE id = 'lost'")
    wait_until(lambda: len(rows()) == 1)
    if connections[ADMIN].pg_version >= 180000:
        problem = "updates of rows that are not here have gone by, 1 in all"
        told = [("default", "notice", "keyhub.H067 keyhub_to_default", problem)]
        # The worker hands its counts in when nothing at all comes from the server, or behind another transaction.
        come_to_be_told(told, lambda: run(ADMIN, "UPDATE organizations SET name = 'Here' WHERE id = 'here'"))
    mend("default", **ROWS)
    assert found(data=True) == []


def test_a_worker_that_waits(split, run, mend, monkeypatch):
    monkeypatch.setitem(server.LIMITS, "blocked_s", 0)
    monkeypatch.setitem(server.LIMITS, "lag_bytes", 0)
    with split.connect("default") as holder:
        holder.execute("SET application_name = 'report'")
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE organizations IN SHARE MODE")
        run(ADMIN, "UPDATE organizations SET name = name || '?'")
        waits = "its worker has waited for a lock for 0 s, held by pid {} (postgres, report): nothing comes meanwhile"
        wait_until(lambda: len(found(only={"keyhub.H066"})) == 2)
        here, there = found(only={"keyhub.H066"})
        assert here == (
            "default",
            "warning",
            "keyhub.H066 keyhub_to_default",
            waits.format(holder.info.backend_pid),
        )
        assert there[:3] == (ADMIN, "warning", "keyhub.H066 keyhub_to_default")
        assert re.fullmatch(r"the database 'default' is \d+ s and \d+ MB behind", there[3])
        # As long as there is more to come, nobody can say which rows differ.
        assert rows() == []
        (skipped,) = reports(**ROWS)[0].skipped
        assert (skipped.object, skipped.reason) == (
            "organizations",
            "the tenant database has not all that it is told",
        )
        run("default", findings(only={"keyhub.H066"})[0].mend, user=SUPERUSER)
        with pytest.raises(psycopg.OperationalError):
            holder.execute("SELECT")
    wait_until(lambda: found(only={"keyhub.H066"}) == [])
    assert rows() == []


def test_what_is_left_of_a_move(split, run):
    run(
        "default",
        "CREATE PUBLICATION keyhub_to_admin FOR TABLE organizations",
        "SELECT pg_create_logical_replication_slot('keyhub_to_admin_' || oid, 'pgoutput') FROM pg_database "
        "WHERE datname = current_database()",
        user=SUPERUSER,
    )
    run(
        ADMIN,
        "CREATE SUBSCRIPTION keyhub_to_admin CONNECTION '' PUBLICATION keyhub_to_admin WITH (connect = false, "
        "slot_name = NONE)",
        user=SUPERUSER,
    )
    told = found()
    assert [(alias, what.split()[0], problem.split(" is")[0]) for alias, _, what, problem in told] == [
        ("default", "keyhub.H069", "the replication slot"),
        ("default", "keyhub.H069", "the publication"),
        (ADMIN, "keyhub.H069", "the subscription"),
    ]
    assert {line[1] for line in told} == {"warning"}
    for report in reports():
        for finding in report.findings:
            run(report.database, *finding.mend.splitlines(), user=SUPERUSER)
    assert found() == []


# The rows of both

ROWS = {"data": True, "only": frozenset({"keyhub.H068"})}


def rows() -> list[tuple[str, str, str, str]]:
    return found(**ROWS)


def test_rows_that_differ(run, mend):
    large = "jsonb_build_object('k', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 500) AS n))"
    run(
        ADMIN,
        "INSERT INTO organizations (id, name, slug) VALUES ('one', 'One', 'one'), ('two', 'Two', 'two'), "
        "('it''s', 'Its', 'its')",
        f"UPDATE organizations SET settings = {large} WHERE id = 'one'",
    )
    wait_until(lambda: reports(**ROWS)[0].skipped == [])
    assert rows() == []

    run("default", WRITES_COPIES, "UPDATE organizations SET settings = '{}' WHERE id = 'one'")
    run("default", WRITES_COPIES, "UPDATE organizations SET name = 'Another' WHERE id = 'two'")
    assert rows() == [
        ("default", "critical", "keyhub.H068 organizations", "2 rows are not the same in both databases: one, two")
    ]
    mend("default", **ROWS)
    assert rows() == []

    run("default", WRITES_COPIES, "DELETE FROM organizations WHERE id = 'it''s'")
    there = (
        "default",
        "critical",
        "keyhub.H068 organizations",
        "1 row is in the Admin database alone, and no row of this one can refer to it: it's",
    )
    assert rows() == [there]
    mend("default", **ROWS)
    assert rows() == []

    run(ADMIN, WRITES_COPIES, "DELETE FROM organizations WHERE id IN ('one', 'it''s')")
    assert rows() == [
        ("default", "critical", "keyhub.H068 organizations", "2 rows are in the tenant database alone: it's, one")
    ]
    (finding,) = findings(**ROWS)
    assert finding.mend.splitlines() == [
        "manage.py splitadmin --restored admin",
        "-- Or, where they were deleted on purpose:",
        "manage.py splitadmin --restored default",
    ]
    call_command("splitadmin", "--restored", "default", stdout=Silent(), stderr=Silent())
    assert rows() == []

    run("default", "INSERT INTO tenants (name, slug, organization_id) VALUES ('t', 't', 'two'), ('u', 'u', 'two')")
    run(ADMIN, WRITES_COPIES, "DELETE FROM organizations WHERE id = 'two'")
    assert rows() == [
        (
            "default",
            "critical",
            "keyhub.H068 organizations",
            "1 row is in the tenant database alone, and 2 rows of tenants refer to it: two",
        )
    ]
    mend("default", **ROWS)
    assert rows() == []


def test_rows_on_their_way_do_not_differ(split):
    stop = threading.Event()

    def write() -> None:
        with split.connect(ADMIN, user="keyhub") as writer:
            number = 0
            while not stop.is_set():
                number += 1
                writer.execute("UPDATE organizations SET name = %s WHERE name = 'new'", [f"name {number}"])
                writer.execute("INSERT INTO organizations (id, name, slug) VALUES (%s, 'new', %s)", [f"n{number}"] * 2)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            assert rows() == []
    finally:
        stop.set()
        writer.join()


def test_a_repair_beside_writers(split):
    """They are not paused, and both databases have all that they have written."""
    stop = threading.Event()
    written = []

    def write() -> None:
        with split.connect(ADMIN, user="keyhub") as writer:
            while not stop.is_set():
                name = f"w{len(written)}"
                writer.execute("INSERT INTO organizations (id, name, slug) VALUES (%s, 'new', %s)", [name, name])
                writer.execute("UPDATE organizations SET name = 'newer' WHERE id = %s", [name])
                written.append(name)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            procedure.repair(lambda line: None)
    finally:
        stop.set()
        writer.join()
    wait_until(lambda: reports(**ROWS)[0].skipped == [])
    assert rows() == []
    with split.connect("default") as own:
        query = "SELECT id FROM organizations WHERE id ~ '^w[0-9]+$' AND name = 'newer'"
        assert {id for (id,) in own.execute(query)} == set(written)  # noqa: A001
