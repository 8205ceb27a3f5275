"""Rows of the audit log stay as they were written, in every partition, also in those to come."""

import pytest
from psycopg import errors

from audit.months import Month

pytestmark = pytest.mark.database

INSERT = "INSERT INTO audit_logs (organization_id, action, resource_type, created_at) VALUES ('o', 'a', 'r', %s)"
WORDS = "{} on {} is refused, because audit_logs is append-only. Record a correcting entry instead."


@pytest.fixture
def month(owner, this_month) -> Month:
    """This one, with a row."""
    owner.execute(INSERT, ["now"])
    return this_month


def refusal(owner, statement: str) -> str:
    with pytest.raises(errors.RestrictViolation) as refused:
        owner.execute(statement)
    assert refused.value.diag.constraint_name == "audit_logs_append_only"
    return refused.value.diag.message_primary


def test_nothing_is_changed_deleted_or_truncated(owner, month):
    part = month.partition
    for table in ("audit_logs", part):
        assert refusal(owner, f"UPDATE {table} SET action = 'b'") == WORDS.format("UPDATE", part)
        assert refusal(owner, f"DELETE FROM {table}") == WORDS.format("DELETE", part)
        assert refusal(owner, f"TRUNCATE {table}") == WORDS.format("TRUNCATE", table)
    assert refusal(owner, "UPDATE audit_logs SET created_at = created_at + interval '1 month'")
    assert owner.execute("SELECT action FROM audit_logs").fetchall() == [("a",)]


def test_a_month_made_later_is_protected_too_and_default_rows_still_move(manage, migrated_database, owner, month):
    owner.execute(INSERT, ["2020-02-10 00:00:00+00"])
    result = manage("auditpartitions", "--ahead", "4", database=migrated_database)
    assert (result.returncode, result.stderr) == (0, "")
    assert refusal(owner, "DELETE FROM audit_logs_2020_02") == WORDS.format("DELETE", "audit_logs_2020_02")
    for part in ("audit_logs_2020_02", month.plus(4).partition, "audit_logs_default"):
        assert refusal(owner, f"TRUNCATE {part}") == WORDS.format("TRUNCATE", part)
    owner.execute(INSERT, ["infinity"])
    assert refusal(owner, "DELETE FROM audit_logs_default") == WORDS.format("DELETE", "audit_logs_default")


def test_partitions_are_made_in_a_database_of_the_version_before(manage, migrated_database, owner):
    assert manage("migrate", "audit", "0001", "-v0", database=migrated_database).returncode == 0
    owner.execute(INSERT, ["2020-02-10 00:00:00+00"])
    assert manage("auditpartitions", database=migrated_database).returncode == 0
    assert manage("migrate", "-v0", database=migrated_database).returncode == 0
    assert refusal(owner, "TRUNCATE audit_logs_2020_02") == WORDS.format("TRUNCATE", "audit_logs_2020_02")


def test_the_owner_takes_a_whole_month_away(owner, month):
    part = month.partition
    owner.execute(f"ALTER TABLE audit_logs DETACH PARTITION {part}")
    owner.execute(f"DROP TABLE {part}")
    assert owner.execute("SELECT count(*) FROM audit_logs").fetchone() == (0,)


def test_dbhealth_tells_of_a_table_without_its_triggers(manage, migrated_database, owner, month):
    owner.execute("DROP TRIGGER refuse_audit_logs_truncate ON audit_logs_default")
    owner.execute(f"ALTER TABLE {month.partition} DISABLE TRIGGER refuse_audit_logs_change")
    result = manage("dbhealth", "--only", "keyhub.H010", database=migrated_database)
    assert (result.returncode, result.stdout.splitlines()) == (
        1,
        [
            "CRITICAL keyhub.H010 audit_logs_default.refuse_audit_logs_truncate: the trigger does not exist, although "
            "an applied migration makes it",
            "    CREATE OR REPLACE TRIGGER refuse_audit_logs_truncate BEFORE TRUNCATE ON audit_logs_default "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();",
            f"CRITICAL keyhub.H010 {month.partition}.refuse_audit_logs_change: the trigger is disabled: it does "
            "nothing",
            f"    ALTER TABLE {month.partition} ENABLE TRIGGER refuse_audit_logs_change;",
            "default: 2 critical",
        ],
    )


@pytest.fixture
def service(server, worker_id):
    """The name of a role that is not the owner."""
    role = f"keyhub_auditor_{worker_id}"
    with server.connect() as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN")
        yield role
        for (database,) in admin.execute(
            "SELECT datname FROM pg_database JOIN pg_shdepend ON dbid = pg_database.oid "
            f"WHERE refobjid = '{role}'::regrole"
        ).fetchall():
            with server.connect(database) as there:
                there.execute(f"DROP OWNED BY {role}")
        admin.execute(f"DROP ROLE {role}")


def rights(owner, role: str) -> set[str]:
    """What a role may do with the log and everything of it, TRUNCATE and the columns' rights included."""
    rows = owner.execute(
        """
        SELECT DISTINCT privilege
        FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS privilege
        WHERE relname ~ '^audit_(logs|seals|archives)' AND relkind IN ('r', 'p') AND (
            has_table_privilege(%(role)s, oid, privilege)
            OR (privilege = 'UPDATE' AND has_any_column_privilege(%(role)s, oid, privilege))
        )
        """,
        {"role": role},
    )
    return {privilege for (privilege,) in rows}


def test_the_migration_takes_the_right_to_change_from_everybody_else(manage, server, empty_database, service):
    assert manage("migrate", "audit", "0006", "-v0", database=empty_database).returncode == 0
    with server.connect(empty_database, "keyhub") as owner:
        month = Month.of(owner.execute("SELECT statement_timestamp() AT TIME ZONE 'UTC'").fetchone()[0]).partition
        owner.execute(f"GRANT ALL ON audit_logs TO {service} WITH GRANT OPTION")
        owner.execute(f"GRANT UPDATE (actor_label) ON {month} TO {service}")
        owner.execute("GRANT UPDATE, TRUNCATE ON audit_logs_default, audit_seals TO PUBLIC")
        assert rights(owner, service) == {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"}
        assert manage("migrate", "audit", "-v0", database=empty_database).returncode == 0
        assert rights(owner, service) == {"SELECT", "INSERT"}


def test_a_new_month_gives_nobody_the_right_to_change_it(manage, server, migrated_database, owner, service, this_month):
    owner.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {service}")
    assert manage("auditpartitions", "--ahead", "5", database=migrated_database).returncode == 0
    assert rights(owner, service) == {"SELECT", "INSERT"}
    with server.connect(migrated_database, service) as client, pytest.raises(errors.InsufficientPrivilege):
        client.execute(f"DELETE FROM {this_month.plus(5).partition}")


def test_dbhealth_tells_who_may_change_it(manage, migrated_database, owner, service, month):
    owner.execute(f"GRANT DELETE ON audit_logs TO {service}")
    result = manage("dbhealth", database=migrated_database)
    assert result.returncode == 1
    assert f"REVOKE DELETE ON TABLE audit_logs FROM {service}" in result.stdout
