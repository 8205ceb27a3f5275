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
