"""dbhealth as a command: silent on a healthy database, worst first otherwise, honest about what it did not see."""

import json
import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import psycopg
import pytest
from django.db import InternalError

from audit.months import Month
from keyhub import dbhealth
from keyhub.dbhealth import examination
from tests.conftest import REPOSITORY


@pytest.fixture
def client(server, migrated_database):
    with server.connect(migrated_database, user="keyhub") as client:
        yield client


@pytest.fixture
def this_month(client) -> Month:
    return Month.of(client.execute("SELECT statement_timestamp() AT TIME ZONE 'UTC'").fetchone()[0])


@pytest.fixture
def findings(manage, migrated_database):
    def findings(*arguments: str) -> str:
        result = manage("dbhealth", *arguments, database=migrated_database)
        assert (result.returncode, result.stderr) == (1, "")
        return result.stdout

    return findings


@pytest.fixture
def healthy(manage, migrated_database):
    def healthy() -> bool:
        result = manage("dbhealth", database=migrated_database)
        return (result.returncode, result.stdout, result.stderr) == (0, "default: healthy\n", "")

    return healthy


def test_a_migrated_database_is_healthy(healthy):
    assert healthy()


def test_pending_migrations_come_first_and_drift_is_measured_without_them(manage, migrated_database, findings, client):
    assert manage("migrate", "audit", "0010", "-v0", "--yes", database=migrated_database).returncode == 0
    client.execute("DROP INDEX idx_tenants_slug")
    assert findings() == (
        "default: drift is measured against the migrations that are applied\n"
        "CRITICAL keyhub.H001 django_migrations: 3 migrations are pending: "
        "audit.0011_audit_logs_transaction_index, audit.0012_audit_logs_permissions, audit.0013_names_in_words\n"
        "    manage.py migrate\n"
        "CRITICAL keyhub.H003 tenants.idx_tenants_slug: the index does not exist, although an applied migration makes "
        "it\n"
        "    CREATE INDEX CONCURRENTLY idx_tenants_slug ON tenants USING btree (slug);\n"
        "default: 2 critical\n"
    )
    # Before migrate, pending is what they should be.
    lines = findings("--phase", "pre-migrate").splitlines()
    assert [line.split(" ")[1] for line in lines if line.startswith("CRITICAL")] == ["keyhub.H003"]


@pytest.mark.once
@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_no_drift_at_an_older_version(manage, migrated_database, findings, version):
    assert manage("migrate", "--to", str(version), "--yes", "-v0", database=migrated_database).returncode == 0
    lines = findings().splitlines()
    assert lines[1].startswith("CRITICAL keyhub.H001 django_migrations: ")
    assert lines[-1] == "default: 1 critical"


def test_an_empty_database_has_migrations_to_run_and_nothing_missing(manage, empty_database):
    result = manage("dbhealth", database=empty_database)
    assert result.returncode == 1
    lines = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert re.match(
        r"CRITICAL keyhub\.H001 django_migrations: \d+ migrations are pending: contenttypes\.0001_initial, ", lines[1]
    )
    # What migrate makes before its first migration.
    assert [line.split(" ")[2].rstrip(":") for line in lines[2:-1]] == ["django_migrations", "keyhub_migrations"]


@pytest.mark.parametrize("table", ["users", "audit_logs", "operators_groups", "organizations"])
def test_a_table_that_is_gone(findings, client, table):
    client.execute(f"DROP TABLE {table} CASCADE")
    lines = findings().splitlines()
    assert lines[0] == f"CRITICAL keyhub.H002 {table}: the table does not exist, although an applied migration makes it"
    assert lines[1] == "    -- Its rows are gone: restore them from a backup."
    # Its columns, indexes and triggers are told with it.
    told = [line for line in lines if line.startswith("CRITICAL")]
    assert all(line.split(" ")[1] == "keyhub.H004" for line in told[1:])


def test_an_invalid_index_and_its_mend(findings, healthy, client):
    client.execute("DROP INDEX idx_tenants_is_default")
    client.execute("INSERT INTO tenants (name, slug, is_default) VALUES ('a', 'a', true)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        client.execute(
            "CREATE UNIQUE INDEX CONCURRENTLY idx_tenants_is_default ON tenants (organization_id) WHERE is_default"
        )
    assert findings() == (
        "CRITICAL keyhub.H003 tenants.idx_tenants_is_default: the index is invalid: queries do not use it, and a "
        "unique one does not keep duplicates out\n"
        "    REINDEX INDEX CONCURRENTLY idx_tenants_is_default;\n"
        "default: 1 critical\n"
    )
    client.execute("DELETE FROM tenants WHERE slug = 'a'")
    client.execute("REINDEX INDEX CONCURRENTLY idx_tenants_is_default")
    assert healthy()


def test_an_unvalidated_constraint_and_its_mend(findings, healthy, client):
    client.execute(
        "ALTER TABLE sessions DROP CONSTRAINT sessions_user_id_fkey, ADD CONSTRAINT sessions_user_id_fkey "
        "FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE NOT VALID"
    )
    mend = "ALTER TABLE sessions VALIDATE CONSTRAINT sessions_user_id_fkey;"
    assert findings() == (
        "CRITICAL keyhub.H004 sessions.sessions_user_id_fkey: the constraint is not validated: rows from before it may "
        f"break it\n    {mend}\ndefault: 1 critical\n"
    )
    client.execute(mend)
    assert healthy()


def test_a_disabled_trigger_of_a_foreign_key(findings, healthy, server, migrated_database):
    with server.connect(migrated_database) as superuser:
        superuser.execute("ALTER TABLE sessions DISABLE TRIGGER ALL")
        lines = findings().splitlines()
        told = lines.index(
            "CRITICAL keyhub.H010 sessions.sessions_active_membership_id_user_id_fkey RI_FKey_check_ins: the trigger "
            "that keeps this key is disabled: rows may break the key"
        )
        assert lines[told + 1] == "    -- As a superuser: PostgreSQL lets nobody else touch its own triggers."
        disabled = superuser.execute(
            "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'sessions'::regclass AND tgenabled = 'D'"
        )
        assert lines[-1] == f"default: {disabled.fetchone()[0]} critical"
        for line in lines:
            if line.startswith("    ALTER"):
                superuser.execute(line)
    assert healthy()


def test_renamed_things_are_known_again_and_not_dropped(findings, healthy, client):
    client.execute("ALTER TABLE oauth_states RENAME TO states")
    client.execute("ALTER TABLE users RENAME COLUMN icon TO avatar")
    client.execute("ALTER INDEX idx_users_created_at RENAME TO newest_users")
    client.execute("ALTER FUNCTION update_updated_at_column() RENAME TO touch")
    output = findings()
    assert output == (
        "CRITICAL keyhub.H002 oauth_states: the table is called states here\n"
        "    ALTER TABLE states RENAME TO oauth_states;\n"
        "CRITICAL keyhub.H011 update_updated_at_column(): the function is called touch here\n"
        "    ALTER FUNCTION touch() RENAME TO update_updated_at_column;\n"
        "CRITICAL keyhub.H009 users.icon: the column is called avatar here\n"
        "    ALTER TABLE users RENAME COLUMN avatar TO icon;\n"
        "WARNING keyhub.H003 users.idx_users_created_at: the index is called newest_users here\n"
        "    ALTER INDEX newest_users RENAME TO idx_users_created_at;\n"
        "default: 3 critical, 1 warning\n"
    )
    for line in output.splitlines():
        if line.startswith("    "):
            client.execute(line)
    assert healthy()


def test_missing_months_are_told_and_mended(manage, migrated_database, findings, healthy, client, this_month):
    client.execute(f"DROP TABLE {this_month.partition}, {this_month.plus(3).partition}")
    assert findings() == (
        f"CRITICAL audit.H001 {this_month.partition}: audit_logs has no partition for {this_month}\n"
        "    manage.py auditpartitions\n"
        f"WARNING audit.H001 {this_month.plus(3).partition}: audit_logs has no partition for {this_month.plus(3)}\n"
        "    manage.py auditpartitions\n"
        "default: 1 critical, 1 warning\n"
    )
    assert manage("auditpartitions", database=migrated_database).returncode == 0
    assert healthy()


def attach_month(client, month) -> None:
    client.execute(f"CREATE TABLE {month.partition} PARTITION OF audit_logs {month.bounds}")
    client.execute(
        f"CREATE TRIGGER refuse_audit_logs_truncate BEFORE TRUNCATE ON {month.partition} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()"
    )


def test_a_gap_between_the_months(findings, healthy, client, this_month):
    old, between = this_month.plus(-2), this_month.plus(-1)
    attach_month(client, old)
    create = (
        f"CREATE TABLE {between.partition} PARTITION OF audit_logs {between.bounds};",
        f"CREATE TRIGGER refuse_audit_logs_truncate BEFORE TRUNCATE ON {between.partition} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();",
    )
    assert findings() == (
        f"WARNING audit.H003 {between.partition}: audit_logs has months before and after {between}, and none between: "
        "a partition was detached or dropped\n"
        "    attach it again, or restore it from a backup; if it had no rows:\n"
        f"    {create[0]}\n"
        f"    {create[1]}\n"
        "default: 1 warning\n"
    )
    for statement in create:
        client.execute(statement)
    assert healthy()


def test_a_few_rows_of_long_ago_are_no_fault(manage, migrated_database, client, this_month):
    old = this_month.plus(-20)
    attach_month(client, old)
    result = manage("dbhealth", database=migrated_database)
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "default: healthy, 1 notice")
    assert result.stdout.startswith(
        f"NOTICE audit.H003 {old.plus(1).partition} to {this_month.plus(-1).partition}: audit_logs has no partition "
        f"for the 19 months from {old.plus(1)} to {this_month.plus(-1)}"
    )


def test_bounds_that_are_not_a_month(manage, migrated_database, findings, healthy, client, this_month):
    start = f"{this_month.plus(4).start}"
    client.execute(
        "CREATE TABLE audit_logs_odd PARTITION OF audit_logs "
        f"FOR VALUES FROM ('{start}') TO ('{start[:8]}15 00:00:00+09')"
    )
    client.execute(
        f"INSERT INTO audit_logs (organization_id, action, resource_type, created_at) VALUES ('o', 'a', 'r', '{start}')"
    )
    lines = findings().splitlines()
    assert lines[0].startswith(
        "CRITICAL audit.H005 audit_logs_odd: the partition does not begin and end with a UTC month: FROM ("
    )
    for line in lines[2:5]:
        client.execute(line)
    assert lines[5] == "    manage.py auditpartitions"
    assert manage("auditpartitions", database=migrated_database).returncode == 0
    assert healthy()
    assert client.execute("SELECT count(*) FROM audit_logs").fetchone() == (1,)


def test_months_with_the_bounds_of_another_time_zone(findings, client, this_month):
    month = this_month.plus(4)
    start, end = (moment.replace("+00", "+09") for moment in (month.start, month.end))
    client.execute(
        f"DROP TABLE {this_month.plus(3).partition}; "
        f"CREATE TABLE {this_month.plus(3).partition} PARTITION OF audit_logs "
        f"FOR VALUES FROM ('{this_month.plus(3).start}') TO ('{start}'); "
        f"CREATE TABLE {month.partition} PARTITION OF audit_logs FOR VALUES FROM ('{start}') TO ('{end}')"
    )
    lines = findings().splitlines()
    named = [line.split(" ")[2].rstrip(":") for line in lines if line.startswith("CRITICAL keyhub.H013")]
    assert named == [this_month.plus(3).partition, month.partition]


def test_rows_in_the_default_partition(findings, client):
    client.execute(
        "INSERT INTO audit_logs (organization_id, action, resource_type, created_at) "
        "VALUES ('o', 'a', 'r', '2020-01-01+00'), ('o', 'a', 'r', 'infinity')"
    )
    assert findings() == (
        "WARNING audit.H002 audit_logs_default: rows have landed in the DEFAULT partition instead of their month's\n"
        "    manage.py auditpartitions\n"
        "WARNING audit.H004 audit_logs_default: rows have an infinite created_at, which belongs to no month\n"
        "    SELECT * FROM audit_logs_default WHERE NOT isfinite(created_at);\n"
        "default: 2 warning\n"
    )


def test_a_detached_partition(findings, healthy, client, this_month):
    client.execute(f"ALTER TABLE audit_logs DETACH PARTITION {this_month.partition}")
    attach = f"ALTER TABLE audit_logs ATTACH PARTITION {this_month.partition} {this_month.bounds};"
    lines = findings().splitlines()
    assert lines[0].startswith(
        f"CRITICAL keyhub.H013 {this_month.partition}: the partition is detached: its rows are not seen any more"
    )
    assert lines[1] == f"    {attach}"
    client.execute(attach)
    assert healthy()


def test_a_detaching_that_was_interrupted(findings, healthy, client, server, migrated_database, this_month):
    client.execute("DROP TABLE audit_logs_default")
    with server.connect(migrated_database, user="keyhub") as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM audit_logs")
        client.execute("SET statement_timeout = '1s'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute(f"ALTER TABLE audit_logs DETACH PARTITION {this_month.partition} CONCURRENTLY")
    client.execute("RESET statement_timeout")
    lines = findings().splitlines()
    assert (
        f"CRITICAL keyhub.H013 {this_month.partition}: the partition's detaching was interrupted: queries see it and "
        "do not"
    ) in lines
    for line in lines:
        if line.startswith("    ") and "manage.py" not in line:
            client.execute(line)
    assert healthy()


# Django's records


def test_a_migration_recorded_twice(findings, healthy, client):
    client.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('tenancy', '0002_seed_data', now())")
    lines = findings().splitlines()
    assert lines[0] == (
        "CRITICAL keyhub.H007 tenancy.0002_seed_data: the migration is recorded 2 times: two runs made it at once, or "
        "somebody wrote the record"
    )
    client.execute(lines[2])
    assert healthy()


def test_records_of_migrations_and_apps_that_the_code_does_not_have(findings, healthy, client):
    client.execute(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('tenancy', '0099_ghost', now()), "
        "('ghost', '0001_initial', now())"
    )
    assert findings() == (
        "CRITICAL keyhub.H005 tenancy.0099_ghost: the migration is applied, and unknown to this code\n"
        "    deploy the code that has it, or take it back with that code\n"
        "WARNING keyhub.H005 ghost.0001_initial: the migration is applied, and this code has no app ghost\n"
        "    deploy the code that has it; if the app and its tables are gone for good:\n"
        "    DELETE FROM django_migrations WHERE app = 'ghost' AND name = '0001_initial';\n"
        "default: 1 critical, 1 warning\n"
    )
    client.execute("DELETE FROM django_migrations WHERE name = '0099_ghost' OR app = 'ghost'")
    assert healthy()


def test_records_that_are_gone_make_nothing_unexpected(findings, client):
    client.execute("DELETE FROM django_migrations")
    assert findings() == (
        "default: the tables are here, and django_migrations is gone, altered or empty: drift is measured against the "
        "newest version\n"
        "CRITICAL keyhub.H001 django_migrations: nothing is recorded as applied, although there are tables\n"
        "    restore django_migrations from a backup\n"
        "default: 1 critical\n"
    )


def test_what_a_pending_migration_makes_is_not_to_be_dropped(findings, client):
    client.execute("DELETE FROM django_migrations WHERE app = 'tenancy' AND name = '0003_groups'")
    output = findings()
    assert "DROP" not in output
    assert (
        "WARNING keyhub.H002 groups: tenancy.0003_groups makes it, and is not recorded as applied\n"
        "    look whether all of it is here; then manage.py migrate tenancy 0003_groups --fake\n"
    ) in output


def test_a_table_that_the_router_puts_elsewhere(connected_to, migrated_database, settings):
    settings.DATABASE_ROUTERS = ["tests.test_dbhealth.Elsewhere"]
    with connected_to(migrated_database):
        findings = dbhealth.run("default", examination.Selection(only=frozenset({"keyhub.H008"}))).findings
    assert [(finding.object, finding.problem) for finding in findings] == [
        ("organizations", "the table of orgs.Organization is here, and the router puts it into another database")
    ]


class Elsewhere:
    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return False if model_name == "organization" else None


# Who asks


@pytest.fixture
def monitor(server, migrated_database):
    """The URL for a role with pg_monitor and CONNECT alone."""
    role = f"{migrated_database}_monitor"
    with server.connect(migrated_database) as superuser:
        superuser.execute(f"CREATE ROLE {role} LOGIN IN ROLE pg_monitor")
        superuser.execute(f"REVOKE CONNECT ON DATABASE {migrated_database} FROM PUBLIC")
        superuser.execute(f"GRANT CONNECT ON DATABASE {migrated_database} TO {role}")
        yield role, f"postgres:///{migrated_database}?host={server.socket_directory}&user={role}"
        superuser.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_monitor_is_told_the_grants_that_it_lacks(manage, monitor, client):
    role, url = monitor
    client.execute("DROP INDEX idx_tenants_slug")
    result = manage("dbhealth", DATABASE_URL=url)
    assert (result.returncode, result.stderr) == (1, "")
    sequences = (
        "auth_group_id_seq, auth_group_permissions_id_seq, auth_permission_id_seq, axes_accessattempt_id_seq, "
        "axes_accessfailurelog_id_seq, axes_accesslog_id_seq, django_admin_log_id_seq, "
        "django_content_type_id_seq, django_migrations_id_seq, operators_groups_id_seq, operators_id_seq, "
        "operators_user_permissions_id_seq, otp_static_staticdevice_id_seq, otp_static_statictoken_id_seq, "
        "otp_totp_totpdevice_id_seq"
    )
    assert result.stdout == (
        "CRITICAL keyhub.H003 tenants.idx_tenants_slug: the index does not exist, although an applied migration makes "
        "it\n"
        "    CREATE INDEX CONCURRENTLY idx_tenants_slug ON tenants USING btree (slug);\n"
        f"skipped keyhub.H020 {sequences}: the role {role} may not read them\n"
        f"    GRANT SELECT ON SEQUENCE {sequences} TO {role};\n"
        "default: 1 critical, 1 skipped\n"
    )
    client.execute("CREATE INDEX idx_tenants_slug ON tenants (slug)")
    client.execute(result.stdout.splitlines()[3])
    # With that grant nothing is skipped, and the grant itself is no drift.
    assert manage("dbhealth", DATABASE_URL=url).stdout == "default: healthy\n"


def test_what_may_not_be_read_is_skipped_and_never_ok(manage, monitor, client):
    role, url = monitor
    client.execute("REVOKE SELECT ON django_migrations, keyhub_migrations FROM pg_monitor")
    client.execute("INSERT INTO audit_logs (organization_id, action, resource_type, created_at) "
                   "VALUES ('o', 'a', 'r', '2020-01-01+00')")  # fmt: skip
    result = manage("dbhealth", "--data", "--only", "keyhub.H001", "--only", "audit.H002", "--only", "accounts.H001",
                    DATABASE_URL=url)  # fmt: skip
    assert (result.returncode, result.stdout) == (
        0,
        "default: django_migrations may not be read: drift is measured against the newest version\n"
        f"skipped keyhub.H001 django_migrations: the role {role} may not read it\n"
        f"    GRANT SELECT ON django_migrations TO {role};\n"
        f"skipped accounts.H001 users: the role {role} may not read it\n"
        f"    GRANT SELECT ON users TO {role};\n"
        f"skipped audit.H002 audit_logs_default: the role {role} may not read it\n"
        f"    GRANT SELECT ON audit_logs_default TO {role};\n"
        "default: healthy, 3 skipped\n",
    )


def test_what_cannot_be_reached_is_not_called_healthy(manage, server):
    result = manage("dbhealth", "--format", "json", database="keyhub_of_nobody")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("CommandError: the database 'default' could not be checked: connection failed: ")
    assert 'database "keyhub_of_nobody" does not exist' in result.stderr
    assert "Traceback" not in result.stderr


def test_a_check_cannot_write(connected_to, migrated_database, monkeypatch):
    monkeypatch.setattr(examination._registry, "checks", [])

    def write(examination):
        with examination.connection.cursor() as cursor:
            cursor.execute("CREATE TABLE written ()")
        return []

    dbhealth.register(write, ["test.H001"])
    with connected_to(migrated_database), pytest.raises(InternalError, match="read-only transaction"):
        dbhealth.run("default")


def test_a_run_takes_a_handful_of_round_trips(connected_to, migrated_database):
    statements = []

    def count(execute, sql, params, many, context):
        statements.append(sql)
        return execute(sql, params, many, context)

    with connected_to(migrated_database):
        from django.db import connection

        with connection.execute_wrapper(count):
            assert dbhealth.run("default").findings == []
    assert len(statements) <= 17
    # Where there is one database, nothing else is asked about a second one.
    assert sum("keyhub_split" in statement for statement in statements) == 1
    assert not any("pg_subscription" in statement for statement in statements)


# What it prints, and its exit code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "xml"], "manage.py dbhealth: error: argument --format: invalid choice: 'xml'"),
        (["--database", "nobody"], "manage.py dbhealth: error: argument --database: invalid choice: 'nobody'"),
        (["--frobnicate"], "manage.py dbhealth: error: unrecognized arguments: --frobnicate"),
        (["surplus"], "manage.py dbhealth: error: unrecognized arguments: surplus"),
        (["--phase", "noon"], "manage.py dbhealth: error: argument --phase: invalid choice: 'noon'"),
        (
            ["--only", "keyhub.H999"],
            "CommandError: there is no check keyhub.H999. docs/operations/dbhealth.md lists them.\n",
        ),
    ],
)
@pytest.mark.once
def test_wrong_use(manage, migrated_database, arguments, message):
    result = manage("dbhealth", *arguments, database=migrated_database)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.once
def test_the_level_that_fails(manage, migrated_database, findings, client):
    client.execute("CREATE INDEX unordered ON users (name)")
    assert findings("--fail-on", "warning") == (
        "WARNING keyhub.H003 users.unordered: no migration made this index (definition btree (name))\n"
        "    DROP INDEX CONCURRENTLY unordered;\n"
        "default: 1 warning\n"
    )
    assert manage("dbhealth", "--fail-on", "critical", database=migrated_database).returncode == 0


@pytest.mark.once
def test_only_and_skip(manage, migrated_database, findings, client):
    client.execute("CREATE INDEX unordered ON users (name)")
    client.execute("ALTER TABLE users ALTER COLUMN name SET DEFAULT 'x'")
    assert "keyhub.H009" not in findings("--only", "keyhub.H003")
    assert "keyhub.H003" not in findings("--skip", "keyhub.H003")
    skipped = manage("dbhealth", "--skip", "keyhub.H003", "--skip", "keyhub.H009", database=migrated_database)
    assert (skipped.returncode, skipped.stdout) == (0, "default: healthy\n")


FINDING = {
    "id": "keyhub.H009",
    "severity": "critical",
    "object": "users.email",
    "problem": "NULL is let in",
    "mend": "ALTER TABLE users ADD CONSTRAINT email_is_not_null CHECK (email IS NOT NULL) NOT VALID;\n"
    "ALTER TABLE users VALIDATE CONSTRAINT email_is_not_null;\n"
    "ALTER TABLE users ALTER COLUMN email SET NOT NULL;\n"
    "ALTER TABLE users DROP CONSTRAINT email_is_not_null;",
    "expected": 'column users.email {"type": "text", "not null": "yes"}',
    "found": 'column users.email {"type": "text"}',
}


@pytest.fixture
def nullable_email(client):
    client.execute("ALTER TABLE users ALTER COLUMN email DROP NOT NULL")


@pytest.mark.once
def test_json(nullable_email, findings):
    assert json.loads(findings("--format", "json")) == {
        "database": "default",
        "healthy": False,
        "summary": {"critical": 1, "warning": 0, "notice": 0, "skipped": 0, "allowed": 0},
        "notes": [],
        "findings": [FINDING],
        "skipped": [],
        "allowed": [],
    }


@pytest.mark.once
def test_junit(nullable_email, findings):
    suite = ElementTree.fromstring(findings("--format", "junit"))  # noqa: S314 our own
    assert (suite.attrib["failures"], suite.attrib["skipped"]) == ("1", "0")
    (failure,) = suite.iter("failure")
    assert (failure.attrib, failure.text) == ({"type": "critical", "message": "NULL is let in"}, FINDING["mend"])
    cases = {(case.attrib["classname"], case.attrib["name"]) for case in suite.iter("testcase")}
    assert {("keyhub.H009", "users.email"), ("keyhub.H001", "ok"), ("audit.H001", "ok")} <= cases
    assert len(cases) == int(suite.attrib["tests"])


@pytest.mark.once
def test_github(nullable_email, findings):
    mend = FINDING["mend"].replace("\n", "%0A")
    assert findings("--format", "github") == (
        f"::error title=keyhub.H009 users.email::NULL is let in%0A{mend}\ndefault: 1 critical\n"
    )


@pytest.mark.once
def test_openmetrics(nullable_email, findings):
    lines = findings("--format", "openmetrics").splitlines()
    assert 'keyhub_dbhealth_findings{database="default",severity="critical"} 1' in lines
    assert 'keyhub_dbhealth_findings{database="default",severity="warning"} 0' in lines
    assert (
        'keyhub_dbhealth_finding{database="default",id="keyhub.H009",object="users.email",severity="critical"} 1'
    ) in lines
    assert lines[-1] == "# EOF"


@pytest.mark.once
def test_no_colour_in_a_pipe(nullable_email, findings):
    assert "\x1b" not in findings()
    assert "\x1b[" in findings("--force-color")


def test_every_check_has_its_place_on_the_page():
    page = (REPOSITORY / "docs" / "operations" / "dbhealth.md").read_text()
    assert [check for check in sorted(examination.known_ids()) if f"**{check}**" not in page] == []


# The allow-list


@pytest.fixture
def allow_list(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "allow.toml"
        path.write_text(text)
        return str(path)

    return write


def entry(object: str = "users.email", expires: str = "2999-01-01") -> str:  # noqa: A002 the key's name
    return f"""
[[allow]]
id = "keyhub.H009"
object = "{object}"
reason = "until the import is over"
expires = {expires}
"""


@pytest.mark.once
def test_an_allowed_finding(nullable_email, manage, migrated_database, allow_list):
    result = manage("dbhealth", "--allow-list", allow_list(entry()), database=migrated_database)
    assert (result.returncode, result.stdout) == (
        0,
        "allowed until 2999-01-01 keyhub.H009 users.email: NULL is let in (until the import is over)\n"
        "default: healthy, 1 allowed\n",
    )


@pytest.mark.once
def test_an_allowance_that_is_over_and_one_of_something_else(nullable_email, findings, allow_list):
    yesterday = (datetime.now(UTC).date() - timedelta(days=1)).isoformat()
    assert findings("--allow-list", allow_list(entry(expires=yesterday))).splitlines()[0] == (
        f"CRITICAL keyhub.H009 users.email: NULL is let in (allowed until {yesterday}: until the import is over)"
    )
    assert findings("--allow-list", allow_list(entry("users.name"))).endswith("default: 1 critical\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[allow", "cannot be read: Expected ']]' at the end of an array declaration (at end of document). Correct"),
        ("other = 1", "may hold [[allow]] entries alone. Take the rest out."),
        ('[[allow]]\nid = "keyhub.H009"', "must have id, object, reason and expires, and nothing else. Correct it."),
        (entry(expires='"soon"'), "expires must be a date such as 2027-03-31. Correct it."),
        (entry(expires="2027-01-01T00:00:00Z"), "expires must be a date such as 2027-03-31. Correct it."),
        (entry(""), "object must be a text between quotes. Correct it."),
        (entry().replace("H009", "H999"), "there is no check keyhub.H999. docs/operations/dbhealth.md lists them."),
    ],
)
@pytest.mark.once
def test_a_broken_allow_list(manage, migrated_database, allow_list, text, message):
    result = manage("dbhealth", "--allow-list", allow_list(text), database=migrated_database)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.once
def test_an_allow_list_that_is_not_there(manage, migrated_database, tmp_path):
    result = manage("dbhealth", "--allow-list", str(tmp_path / "none.toml"), database=migrated_database)
    assert (result.returncode, result.stderr) == (
        2,
        f"CommandError: the allow-list {tmp_path}/none.toml cannot be read: No such file or directory. "
        "Correct it, or name another.\n",
    )
