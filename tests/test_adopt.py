"""migrate --adopt: databases of golang-migrate, at every version, taken over without losing a row."""

import os
import random
import re
import subprocess
import sys
import threading
import time

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from keyhub import adopt, dbhealth, schemadoc
from keyhub.adopt import rebuild, source
from keyhub.dbversion import version_list
from keyhub.migrate.executor import LockNotGotError, LockPolicy, RefusedError
from tests.adopt import golang_migrate
from tests.conftest import REPOSITORY, database_url

POLICY = LockPolicy(lock_timeout_ms=500, retries=20)


@pytest.fixture
def client(server, empty_database):
    """A connection to the database that is to be adopted."""
    with server.connect(empty_database, "keyhub") as client:
        yield client


@pytest.fixture
def take_over(connected_to, empty_database):
    """Adopt the database; what was told."""

    def run() -> list[str]:
        told: list[str] = []
        with connected_to(empty_database):
            adopt.adopt(connection, version_list.read(), told.append, POLICY)
        return told

    return run


@pytest.fixture
def take_over_and_migrate(take_over, connected_to, empty_database):
    def run() -> list[str]:
        told = take_over()
        with connected_to(empty_database):
            call_command("migrate", verbosity=0)
        return told

    return run


def value(client, query, *parameters):
    ((only,),) = client.execute(query, parameters).fetchall()
    return only


def as_in_a_dump(dump: str) -> list[str]:
    """The objects of a schema dump, less the months of audit_logs and what golang-migrate left."""
    objects = re.split(r"\n\n--\n-- Name: ", dump.replace("\n\nSET default_table_access_method = heap;", ""))
    return [text for text in objects if not re.search(r"audit_logs_\d{4}|schema_migrations|golang_migrate", text)]


@pytest.mark.parametrize("uuid_ossp", [pytest.param(False, marks=pytest.mark.once), True])
@pytest.mark.parametrize("place", [1, 2, 3, 4, 5])
def test_adopted_is_as_migrated(
    client, empty_database, migrated_database, take_over_and_migrate, connected_to, schema_dump, place, uuid_ossp
):
    golang_migrate.make(client, place, uuid_ossp=uuid_ossp)
    if uuid_ossp:
        take_over_and_migrate()
        client.execute("DROP FUNCTION uuid_generate_v4()")
    else:
        take_over_and_migrate()
    assert as_in_a_dump(schema_dump(empty_database)) == as_in_a_dump(schema_dump(migrated_database))
    with connected_to(empty_database):
        assert not dbhealth.run("default").fails(dbhealth.Severity.WARNING)
        assert schemadoc.is_current("default")


# Rows


def rows_of(client, table: str) -> list[tuple]:
    """The rows of a table as the source's columns show them, in no time zone's disguise."""
    columns = {
        "groups": "id, tenant_id, name, description, parent_group_id, created_at, updated_at",
        "audit_logs": "id, organization_id, tenant_id, user_id, action, resource_type, resource_id, details, "
        "ip_address, user_agent, created_at",
        "tenant_memberships": "id, tenant_id, user_id, role, created_at, left_at",
    }.get(table, "*")
    # As the owner of the database, who sees organizations that the adoption has added.
    where = "WHERE id IN ('ORG-DEFAULT-001', 'ORG-A', 'ORG-B')" if table == "organizations" else ""
    return client.execute(f"SELECT {columns} FROM {table} {where} ORDER BY 1").fetchall()


def test_no_row_is_lost_or_changed(client, take_over):
    golang_migrate.make(client, 5)
    before = {table: rows_of(client, table) for table in source.ALL_TABLES}
    assert all(before.values())
    take_over()
    assert {table: rows_of(client, table) for table in source.ALL_TABLES} == before
    depths = client.execute("SELECT depth, count(*) FROM groups GROUP BY depth ORDER BY depth").fetchall()
    assert depths == [(depth, 3) for depth in range(10)]
    assert value(client, "SELECT count(*) FROM audit_logs_default") == 0
    assert value(client, "SELECT count(*) FROM audit_logs_2024_02") == 1
    assert value(client, "SELECT count(*) FROM audit_logs_2031_05") == 1
    # Organizations that a console session or an audit row speaks of.
    assert {row[0] for row in client.execute("SELECT id FROM organizations")} >= {"ORG-CONSOLE", "ORG-GONE"}


def test_the_rules_are_kept_afterwards(client, take_over):
    golang_migrate.make(client, 5)
    take_over()
    with pytest.raises(psycopg.errors.CheckViolation):
        client.execute("UPDATE tenant_join_codes SET used_count = 4")
    with pytest.raises(psycopg.errors.UniqueViolation):
        client.execute("UPDATE tenants SET is_default = true")
    client.execute("UPDATE tenant_memberships SET role = 'viewer'")
    client.execute("DELETE FROM tenants WHERE slug = 'a'")
    assert value(client, "SELECT count(*) FROM groups") == 0
    assert value(client, "SELECT count(*) FROM audit_logs WHERE tenant_id IS NOT NULL") == 1000


# Dirty databases


@pytest.mark.parametrize(
    ("place", "statements", "adopted"),
    [
        pytest.param(1, 0, 0, marks=pytest.mark.once),  # rolled back whole, as golang-migrate does
        pytest.param(1, 5, 1, marks=pytest.mark.once),  # users and user_identities
        (1, 28, 1),  # all tables but one, as psql leaves them
        pytest.param(2, 0, 1, marks=pytest.mark.once),
        (2, 1, 1),
        pytest.param(3, 0, 2, marks=pytest.mark.once),
        pytest.param(3, 1, 3, marks=pytest.mark.once),
        (3, 4, 3),
        pytest.param(4, 0, 3, marks=pytest.mark.once),
        (4, 2, 4),
        pytest.param(5, 0, 4, marks=pytest.mark.once),
        pytest.param(5, 1, 5, marks=pytest.mark.once),
        (5, 3, 5),
    ],
)  # of each file of the source, the most that it can leave behind is adopted on the oldest PostgreSQL, too
def test_a_dirty_version(
    client, empty_database, migrated_database, connected_to, take_over, schema_dump, place, statements, adopted
):
    golang_migrate.make(client, place, dirty_statements=statements)
    told = take_over()
    version = str(version_list.read()[adopted - 1]) if adopted else "none of the versions"
    assert told[-1].startswith(f"Recorded: the database is at {version}.")
    with connected_to(empty_database):
        call_command("migrate", verbosity=0)
        assert not dbhealth.run("default").fails(dbhealth.Severity.WARNING)
    assert as_in_a_dump(schema_dump(empty_database)) == as_in_a_dump(schema_dump(migrated_database))


# Recognising


def test_plain_migrate_is_pointed_to_adoption(client, empty_database, connected_to, take_over):
    golang_migrate.make(client, 3, dirty_statements=4)
    with connected_to(empty_database):
        assert adopt.refusal_without_adoption(connection) == (
            "the database was made by golang-migrate (schema_migrations: version 20240201000001, dirty). "
            "Run migrate --adopt, which takes its tables over."
        )
        take_over()
        assert adopt.refusal_without_adoption(connection) is None


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT",  # an empty database
        "CREATE TABLE schema_migrations (version text)",  # another tool's, say dbmate's
        "CREATE TABLE schema_migrations (version bigint, dirty boolean)",  # without tables: migrate does no harm
        "CREATE VIEW schema_migrations AS SELECT 1::bigint AS version, true AS dirty",
    ],
)
def test_other_databases_are_not_recognised(client, empty_database, connected_to, statement):
    client.execute(statement)
    with connected_to(empty_database):
        assert adopt.refusal_without_adoption(connection) is None


def test_a_database_of_nobody_is_refused(client, take_over):
    client.execute("CREATE TABLE users (id uuid)")
    with pytest.raises(RefusedError) as refused:
        take_over()
    assert str(refused.value) == (
        "there is no table schema_migrations (version bigint, dirty boolean) of golang-migrate, so there is nothing to "
        "adopt. Run migrate without --adopt."
    )


def test_twice_is_once(client, take_over):
    golang_migrate.make(client, 5)
    take_over()
    assert take_over() == ["Nothing to adopt: the database is migrate's own already."]


def test_golang_migrate_is_kept_from_running_again(client, take_over):
    """It asks information_schema for its table, reads a row, and refuses to run where that says dirty."""
    golang_migrate.make(client, 5)
    take_over()
    assert value(client, "SELECT count(*) FROM information_schema.tables WHERE table_name = 'schema_migrations' "
                 "AND table_schema = current_schema()") == 1  # fmt: skip
    assert client.execute("SELECT version, dirty FROM schema_migrations").fetchall() == [(20240401000001, True)]
    assert client.execute("SELECT * FROM golang_migrate.schema_migrations").fetchall() == [(20240401000001, False)]
    for statement in ("TRUNCATE schema_migrations", "INSERT INTO schema_migrations VALUES (1, false)"):
        with pytest.raises(psycopg.Error):
            client.execute(statement)


def test_every_migration_of_the_versions_is_recorded_with_its_digest(client, take_over):
    golang_migrate.make(client, 3)
    take_over()
    versions = version_list.read()
    listed = {key: digest for version in versions[:3] for key, digest in version.digests.items()}
    assert set(client.execute("SELECT app, name FROM django_migrations").fetchall()) == set(listed)
    recorded = client.execute("SELECT app, name, digest FROM keyhub_migrations WHERE applied_at IS NOT NULL").fetchall()
    assert {(app, name): digest for app, name, digest in recorded} == listed


# Refusals


BEFORE = "the database cannot be adopted as it is; nothing was changed.\n"


def catalogue_text(client) -> list[tuple]:
    return client.execute(
        "SELECT relnamespace::regnamespace::text, relname, relfilenode FROM pg_class "
        "WHERE relnamespace::regnamespace::text !~ '^pg_|^information' ORDER BY 1, 2"
    ).fetchall()


@pytest.mark.parametrize(
    ("statement", "table", "rule", "count"),
    [
        (
            "INSERT INTO user_identities (user_id, provider, provider_sub) "
            "SELECT '00000000-0000-0000-0000-00000000000b', provider, provider_sub FROM user_identities "
            "WHERE user_id = '00000000-0000-0000-0000-00000000000a'",
            "user_identities",
            "idx_user_identities_provider_sub",
            1,
        ),
        ("UPDATE tenants SET is_default = true", "tenants", "idx_tenants_is_default", 1),
        ("UPDATE tenant_join_codes SET used_count = 4", "tenant_join_codes", "check_used_count_within_max_uses", 1),
        ("UPDATE console_sessions SET organization_id = ''", "console_sessions", "check_organization_id", 1),
        ("UPDATE group_memberships SET role = 'king' WHERE id IN (SELECT id FROM group_memberships LIMIT 2)",
         "group_memberships", "check_group_role", 2),
        ("UPDATE groups SET tenant_id = '00000000-0000-0000-0000-0000000000a2' WHERE name = 'group 9'",
         "groups", "groups_tenant_id_parent_group_id_parent_depth_fkey", 1),
        ("UPDATE groups SET parent_group_id = id WHERE name = 'group 29'", "groups", "check_group_depth", 1),
        ("UPDATE audit_logs SET created_at = 'infinity' WHERE organization_id = 'ORG-GONE'",
         "audit_logs", "partitions", 1),
        ("INSERT INTO organizations (id, name, slug) VALUES ('', '', '')",
         "organizations", "check_organization_id", 1),
        ("UPDATE organizations SET settings = '[]' WHERE id = 'ORG-B'",
         "organizations", "check_organization_settings", 1),
        ("UPDATE organizations SET status = 'gone'", "organizations", "check_organization_status", 3),
        ("UPDATE organization_domains SET verified_at = NULL", "organization_domains", "check_is_verified", 1),
        ("INSERT INTO organization_domains (organization_id, domain, is_verified, verified_at) "
         "VALUES ('ORG-A', 'B.example', true, now())",
         "organization_domains", "organization_domains_domain_key", 1),
    ],
)  # fmt: skip
def test_rows_that_break_a_rule_are_refused_before_anything_is_changed(
    client, take_over, statement, table, rule, count
):
    golang_migrate.make(client, 5)
    client.execute("ALTER TABLE tenant_memberships DISABLE TRIGGER USER")
    client.execute(statement)
    before = catalogue_text(client)
    with pytest.raises(RefusedError) as refused:
        take_over()
    text = str(refused.value)
    assert text.startswith(f"{BEFORE}{table}: {count} {'breaks' if count == 1 else 'break'} the rule {rule} (")
    assert len(text.splitlines()) == 2
    query = text.partition("List with: ")[2]
    assert client.execute(query).rowcount == count
    assert catalogue_text(client) == before


def test_all_that_hinders_is_one_list(client, take_over):
    golang_migrate.make(client, 5)
    client.execute("UPDATE tenants SET is_default = true")
    client.execute("UPDATE console_sessions SET organization_id = ''")
    client.execute("ALTER TABLE sessions ALTER COLUMN user_agent TYPE varchar(200)")
    client.execute("ALTER TABLE oauth_states DROP COLUMN nonce")
    client.execute("CREATE VIEW logins AS SELECT * FROM audit_logs WHERE action = 'login'")
    client.execute("CREATE TABLE audit_logs_2026_01 (id int)")
    before = catalogue_text(client)
    with pytest.raises(RefusedError) as refused:
        take_over()
    found = str(refused.value).removeprefix(BEFORE).splitlines()
    assert [line.partition(" (")[0] for line in found] == [
        "oauth_states: the column nonce is missing, which the source's table has.",
        "sessions: the column user_agent is character varying(200), not text.",
        "audit_logs: is made anew, but the view logins hangs on it. Drop it, and make it again afterwards.",
        "audit_logs: is made anew, but audit_logs_2026_01 has the name of a partition. "
        "Drop it, and make it again afterwards.",
        "tenants: 1 breaks the rule idx_tenants_is_default",
        "console_sessions: 1 breaks the rule check_organization_id",
    ]
    assert catalogue_text(client) == before


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (
            "UPDATE schema_migrations SET version = 20250101000001",
            "schema_migrations says version 20250101000001, which none of the source's files has (20240101000001, "
            "20240101000002, 20240201000001, 20240301000001, 20240401000001). "
            "Bring the database to one of these with its own tool first.",
        ),
        (
            "DROP TABLE oauth_states",
            "oauth_states: the table is missing, although schema_migrations says that version 20240101000001 is there. "
            "Restore it from a backup.",
        ),
        (
            "CREATE TABLE organizations (id int)",
            "organizations: there is a table (or view) of this name, although schema_migrations says that version "
            "20240401000001 has not been run. Rename it.",
        ),
    ],
)
def test_a_schema_that_cannot_be_mapped_is_refused(client, take_over, statement, text):
    golang_migrate.make(client, 4)
    client.execute(statement)
    with pytest.raises(RefusedError) as refused:
        take_over()
    assert str(refused.value) == text


def test_what_is_somebodys_own_is_left_alone_and_told(client, take_over):
    golang_migrate.make(client, 5)
    client.execute("INSERT INTO tenant_join_codes (tenant_id, code) SELECT id, 'KH-DEMO-002' FROM tenants LIMIT 1")
    client.execute("CREATE TABLE invoices (id int)")
    client.execute("CREATE INDEX users_by_name ON users (name)")
    client.execute("CREATE INDEX audit_by_agent ON audit_logs (user_agent)")
    client.execute("ALTER TABLE users ADD COLUMN phone text")
    told = take_over()
    assert [line for line in told if line.startswith("Left alone")] == [
        "Left alone: audit_logs: index audit_by_agent is no part of KeyHub.",
        "Left alone: table invoices is no part of KeyHub.",
        "Left alone: users: column phone is no part of KeyHub.",
        "Left alone: users: index users_by_name is no part of KeyHub.",
        "Left alone: the join code KH-DEMO-001 is printed in the design, so anybody may enter its tenant with it.",
    ]
    for name in ("invoices", "users_by_name", "audit_by_agent"):
        assert value(client, "SELECT to_regclass(%s) IS NOT NULL", name)


def test_rights_and_owners_are_kept(client, server, take_over):
    golang_migrate.make(client, 5)
    with server.connect() as admin:
        admin.execute("DROP ROLE IF EXISTS keyhub_reader")
        admin.execute("CREATE ROLE keyhub_reader")
    try:
        client.execute("GRANT SELECT, INSERT ON audit_logs, groups TO keyhub_reader")
        client.execute("GRANT UPDATE (name) ON groups TO keyhub_reader WITH GRANT OPTION")
        take_over()
        for table in ("audit_logs", "groups"):
            assert value(client, "SELECT has_table_privilege('keyhub_reader', %s, 'INSERT')", table)
        assert value(client, "SELECT has_column_privilege('keyhub_reader', 'groups', 'name', "
                     "'UPDATE WITH GRANT OPTION')")  # fmt: skip
        assert not value(client, "SELECT has_column_privilege('keyhub_reader', 'groups', 'id', 'UPDATE')")
    finally:
        client.execute("REVOKE ALL ON audit_logs, groups FROM keyhub_reader")
        client.execute("REVOKE ALL (name) ON groups FROM keyhub_reader")
        with server.connect() as admin:
            admin.execute("DROP ROLE keyhub_reader")


# Killed


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.once
@pytest.mark.long
def test_killed_and_run_again(client, server, empty_database, migrated_database, connected_to, schema_dump, seed):
    golang_migrate.make(client, 5)
    before = {table: rows_of(client, table) for table in source.ALL_TABLES}
    environment = {**os.environ, "DATABASE_URL": database_url(server, empty_database)}
    command = [sys.executable, "-W", "error", "-m", "tests.adopt.killer", str(seed)]
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= 12
    assert {table: rows_of(client, table) for table in source.ALL_TABLES} == before
    with connected_to(empty_database):
        call_command("migrate", verbosity=0)
        assert not dbhealth.run("default").fails(dbhealth.Severity.WARNING)
    assert as_in_a_dump(schema_dump(empty_database)) == as_in_a_dump(schema_dump(migrated_database))


# Under way


class Writer(threading.Thread):
    """Writes until it is stopped, and knows what must be there in the end."""

    def __init__(self, server, database: str, number: int):
        super().__init__()
        self.client = server.connect(database, "keyhub")
        self.chance = random.Random(number)  # noqa: S311 the same writes each time
        self.stop = threading.Event()
        self.audit: dict[object, str] = {}
        self.groups: dict[object, object] = {}
        self.error: Exception | None = None
        self.writes = 0

    def run(self):
        try:
            while not self.stop.is_set():
                self.write_audit()
                self.write_group()
                self.client.execute("UPDATE users SET name = name || '.' WHERE email = 'bob@example.com'")
                self.writes += 1
        except Exception as error:  # noqa: BLE001 told by the test
            self.error = error
        finally:
            self.client.close()

    def write_audit(self):
        for days in (0, 0, 40, 400):
            row = self.client.execute(
                "INSERT INTO audit_logs (organization_id, action, resource_type, created_at) "
                "VALUES ('ORG-A', 'made', 'thing', statement_timestamp() - %s * interval '1 day') RETURNING id",
                [days],
            ).fetchone()
            self.audit[row[0]] = "made"
        changed, deleted = self.chance.sample(list(self.audit), 2)
        assert self.client.execute("UPDATE audit_logs SET action = 'seen' WHERE id = %s", [changed]).rowcount == 1
        self.audit[changed] = "seen"
        moved = self.chance.choice(list(self.audit))
        self.client.execute("UPDATE audit_logs SET created_at = created_at - interval '35 days' WHERE id = %s", [moved])
        assert self.client.execute("DELETE FROM audit_logs WHERE id = %s", [deleted]).rowcount == 1
        del self.audit[deleted]

    def write_group(self):
        roots = [group for group, parent in self.groups.items() if parent is None]
        parent = self.chance.choice([None, *roots])
        row = self.client.execute(
            "INSERT INTO groups (tenant_id, name, parent_group_id) "
            "VALUES ('00000000-0000-0000-0000-0000000000a2', 'g', %s) RETURNING id",
            [parent],
        ).fetchone()
        self.groups[row[0]] = parent
        moved = self.chance.choice([group for group in self.groups if group not in self.groups.values()])
        parent = self.chance.choice([None, *(root for root in roots if root != moved)])
        self.client.execute("UPDATE groups SET parent_group_id = %s WHERE id = %s", [parent, moved])
        self.groups[moved] = parent
        if len(self.groups) > 30:
            gone = next(iter(self.groups))
            self.client.execute("DELETE FROM groups WHERE id = %s", [gone])
            self.groups = {
                group: parent for group, parent in self.groups.items() if gone not in (group, parent)
            }  # fmt: skip


def test_writers_go_on_and_nothing_of_theirs_is_lost(client, server, empty_database, take_over, monkeypatch):
    monkeypatch.setattr(rebuild, "BLOCKS_PER_BATCH", 2)
    golang_migrate.make(client, 5)
    client.execute(
        "INSERT INTO audit_logs (organization_id, action, resource_type, created_at) SELECT 'ORG-A', 'old', 'thing', "
        "statement_timestamp() - n * interval '10 minutes' FROM generate_series(1, 20000) AS n"
    )
    writers = [Writer(server, empty_database, number) for number in range(4)]
    for writer in writers:
        writer.start()
    try:
        take_over()
        writes = [writer.writes for writer in writers]
        deadline = time.monotonic() + 30
        while not all(before < writer.writes for before, writer in zip(writes, writers, strict=True)):
            assert [writer.error for writer in writers] == [None] * len(writers)
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        for writer in writers:
            writer.stop.set()
        for writer in writers:
            writer.join()
    assert [writer.error for writer in writers] == [None] * len(writers)
    found = client.execute("SELECT id, action FROM audit_logs WHERE action IN ('made', 'seen')").fetchall()
    audit = dict(found)
    assert len(audit) == len(found)
    assert audit == {key: value for writer in writers for key, value in writer.audit.items()}
    assert value(client, "SELECT count(*) FROM audit_logs WHERE action = 'old'") == 20000
    groups = dict(client.execute("SELECT id, parent_group_id FROM groups WHERE name = 'g'").fetchall())
    assert groups == {key: value for writer in writers for key, value in writer.groups.items()}
    assert value(client, "SELECT count(*) FROM groups AS child JOIN groups AS parent ON parent.id = "
                 "child.parent_group_id WHERE child.parent_depth <> parent.depth") == 0  # fmt: skip


def test_a_lock_that_is_not_got_is_told_and_the_next_run_goes_on(
    client, server, empty_database, connected_to, take_over
):
    golang_migrate.make(client, 5)
    told = []
    with server.connect(empty_database, "keyhub") as reader, reader.transaction():
        reader.execute("SELECT FROM groups")
        with connected_to(empty_database), pytest.raises(LockNotGotError):
            adopt.adopt(connection, version_list.read(), told.append, LockPolicy(lock_timeout_ms=1000, retries=1))
    assert any("lock not got in try 1 of 2. In its way: pid" in line for line in told)
    assert value(client, "SELECT count(*) FROM groups") == 30
    assert take_over()[-1].startswith("Recorded: ")


def test_a_vacuum_is_waited_for_in_patience(client, server, empty_database, connected_to):
    """It would be in the way of a short wait for as long as it takes, and nobody has to wait meanwhile."""
    golang_migrate.make(client, 5)
    with server.connect(empty_database, "keyhub") as vacuum, connected_to(empty_database):
        vacuum.execute("BEGIN; LOCK TABLE audit_logs IN SHARE UPDATE EXCLUSIVE MODE")
        timer = threading.Timer(1, lambda: vacuum.execute("ROLLBACK"))
        told: list[str] = []
        timer.start()
        adopt.adopt(connection, version_list.read(), told.append, LockPolicy(lock_timeout_ms=500, retries=0))
        timer.join()
    assert told[-1].startswith("Recorded: ")


def test_rows_truncated_meanwhile_are_gone(client, empty_database, connected_to, take_over):
    """A run that was interrupted after copying: what happens until the next one is noted all the same."""
    golang_migrate.make(client, 5)

    def interrupt(text: str) -> None:
        if text == "audit_logs: the rows are copied.":
            raise KeyboardInterrupt

    with connected_to(empty_database), pytest.raises(KeyboardInterrupt):
        adopt.adopt(connection, version_list.read(), interrupt, POLICY)
    client.execute("TRUNCATE audit_logs")
    client.execute("INSERT INTO audit_logs (organization_id, action, resource_type) VALUES ('ORG-A', 'after', 'thing')")
    client.execute("VACUUM FULL audit_logs")
    take_over()
    assert client.execute("SELECT action FROM audit_logs").fetchall() == [("after",)]
