"""dbhealth: silent on a healthy database, exact on each fault, honest about what it could not check."""

import json

import psycopg
import pytest
from django.db import InternalError

from audit.auditpartitions import Month
from keyhub import dbhealth


@pytest.fixture
def client(server, migrated_database):
    with psycopg.connect(
        host=str(server.socket_directory), dbname=migrated_database, user="keyhub", autocommit=True
    ) as client:
        yield client


@pytest.fixture
def this_month(client) -> Month:
    return Month.of(client.execute("SELECT statement_timestamp() AT TIME ZONE 'UTC'").fetchone()[0])


def findings(manage, database) -> str:
    result = manage("dbhealth", database=database)
    assert (result.returncode, result.stderr) == (1, "")
    return result.stdout


def test_a_migrated_database_is_healthy(manage, migrated_database):
    result = manage("dbhealth", database=migrated_database)
    assert (result.returncode, result.stdout, result.stderr) == (0, "default: healthy\n", "")


def test_a_migration_that_is_not_applied(manage, migrated_database):
    assert manage("migrate", "tenancy", "0002", "-v0", database=migrated_database).returncode == 0
    assert findings(manage, migrated_database) == (
        "CRITICAL keyhub.H001 tenancy.0003_groups: the migration is not applied\n"
        "    manage.py migrate\n"
        "default: 1 finding\n"
    )


def test_an_empty_database_has_migrations_to_run_and_no_missing_tables(manage, empty_database):
    lines = findings(manage, empty_database).splitlines()
    assert lines[0] == "CRITICAL keyhub.H001 accounts.0001_initial_schema: the migration is not applied"
    assert not [line for line in lines if "keyhub.H002" in line]


@pytest.mark.parametrize("table", ["users", "audit_logs", "operators_groups", "organizations"])
def test_a_table_that_is_gone(manage, migrated_database, client, table):
    client.execute(f"DROP TABLE {table} CASCADE")
    assert findings(manage, migrated_database) == (
        f"CRITICAL keyhub.H002 {table}: the table does not exist, although the migration that makes it is applied\n"
        "    restore the table from a backup\n"
        "default: 1 finding\n"
    )


def test_an_invalid_index_and_its_mend(manage, migrated_database, client):
    client.execute("INSERT INTO groups (tenant_id, name) SELECT id, unnest(ARRAY['same', 'same']) FROM tenants")
    with pytest.raises(psycopg.errors.UniqueViolation):
        client.execute("CREATE UNIQUE INDEX CONCURRENTLY groups_name ON groups (name)")
    assert findings(manage, migrated_database) == (
        "CRITICAL keyhub.H003 groups_name: the index is invalid: queries do not use it, and a unique one does not keep "
        "duplicates out\n"
        "    REINDEX INDEX CONCURRENTLY groups_name;\n"
        "default: 1 finding\n"
    )
    client.execute("DELETE FROM groups")
    client.execute("REINDEX INDEX CONCURRENTLY groups_name")
    assert manage("dbhealth", database=migrated_database).returncode == 0


def test_an_unvalidated_constraint_and_its_mend(manage, migrated_database, client):
    client.execute("ALTER TABLE users ADD CONSTRAINT \"Odd name\" CHECK (email LIKE '%@%') NOT VALID")
    mend = 'ALTER TABLE users VALIDATE CONSTRAINT "Odd name";'
    assert findings(manage, migrated_database) == (
        'CRITICAL keyhub.H004 users."Odd name": the constraint is not validated: rows from before it may break it\n'
        f"    {mend}\n"
        "default: 1 finding\n"
    )
    client.execute(mend)
    assert manage("dbhealth", database=migrated_database).returncode == 0


def test_missing_months_are_told_and_mended(manage, migrated_database, client, this_month):
    client.execute(f"DROP TABLE {this_month.partition}, {this_month.plus(3).partition}")
    assert findings(manage, migrated_database) == (
        f"CRITICAL audit.H001 {this_month.partition}: audit_logs has no partition for {this_month}\n"
        "    manage.py auditpartitions\n"
        f"WARNING audit.H001 {this_month.plus(3).partition}: audit_logs has no partition for {this_month.plus(3)}\n"
        "    manage.py auditpartitions\n"
        "default: 2 findings\n"
    )
    assert manage("auditpartitions", database=migrated_database).returncode == 0
    assert manage("dbhealth", database=migrated_database).returncode == 0


def test_rows_in_the_default_partition(manage, migrated_database, client):
    client.execute(
        "INSERT INTO audit_logs (organization_id, action, resource_type, created_at) "
        "VALUES ('o', 'a', 'r', '2020-01-01+00'), ('o', 'a', 'r', 'infinity')"
    )
    assert findings(manage, migrated_database) == (
        "WARNING audit.H002 audit_logs_default: rows have landed in the DEFAULT partition instead of their month's\n"
        "    manage.py auditpartitions\n"
        "WARNING audit.H004 audit_logs_default: rows have an infinite created_at, which belongs to no month\n"
        "    SELECT * FROM audit_logs_default WHERE NOT isfinite(created_at);\n"
        "default: 2 findings\n"
    )


def test_no_default_partition(manage, migrated_database, client):
    client.execute("DROP TABLE audit_logs_default")
    mend = "CREATE TABLE audit_logs_default PARTITION OF audit_logs DEFAULT;"
    assert findings(manage, migrated_database) == (
        "CRITICAL audit.H003 audit_logs_default: audit_logs has no DEFAULT partition: a row of a month without a "
        f"partition is refused\n    {mend}\ndefault: 1 finding\n"
    )
    client.execute(mend)
    assert manage("dbhealth", database=migrated_database).returncode == 0


def test_json_goes_to_stdout_alone(manage, migrated_database, client):
    client.execute("DROP TABLE oauth_states")
    result = manage("dbhealth", "--format", "json", database=migrated_database)
    assert (result.returncode, result.stderr) == (1, "")
    assert json.loads(result.stdout) == {
        "database": "default",
        "findings": [
            {
                "id": "keyhub.H002",
                "severity": "critical",
                "object": "oauth_states",
                "problem": "the table does not exist, although the migration that makes it is applied",
                "mend": "restore the table from a backup",
            }
        ],
    }


def test_what_cannot_be_reached_is_not_called_healthy(manage, server):
    result = manage("dbhealth", database="keyhub_of_nobody")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("CommandError: the database 'default' could not be checked: connection failed: ")
    assert 'database "keyhub_of_nobody" does not exist' in result.stderr
    assert "Traceback" not in result.stderr


def test_what_may_not_be_read_is_not_called_healthy(manage, migrated_database, client):
    client.execute("SET ROLE keyhub; REVOKE SELECT ON django_migrations FROM keyhub")
    result = manage("dbhealth", database=migrated_database)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == (
        "CommandError: the database 'default' could not be checked: permission denied for table django_migrations\n"
    )


@pytest.mark.parametrize("arguments", [["--format", "xml"], ["--database", "nobody"], ["--frobnicate"], ["surplus"]])
def test_wrong_use(manage, migrated_database, arguments):
    result = manage("dbhealth", *arguments, database=migrated_database)
    assert (result.returncode, result.stdout) == (2, "")
    assert "manage.py dbhealth: error: " in result.stderr


def test_a_check_cannot_write(connected_to, migrated_database):
    def write(connection):
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE written ()")
        return []

    dbhealth.register(write)
    try:
        with connected_to(migrated_database), pytest.raises(InternalError, match="read-only transaction"):
            dbhealth.run("default")
    finally:
        dbhealth._checks.remove(write)
