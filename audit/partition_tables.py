"""Tables that are to become partitions of audit_logs: made with everything a partition has, before it is attached."""

from audit.months import Month, PartitionError

CHANGE_TRIGGER = "refuse_audit_logs_change"  # of rows; partitions get it from the parent
TRUNCATE_TRIGGER = "refuse_audit_logs_truncate"  # each partition needs its own
INSERT_TRIGGER = "refuse_audit_logs_insert"  # of sealed months; of DEFAULT, where months were retired
DEFAULT_PARTITION = "audit_logs_default"
# Of each role but the owner, which may have them by default.
RIGHTS_TO_CHANGE = """
    SELECT DISTINCT format('REVOKE UPDATE, DELETE, TRUNCATE ON %%s FROM %%s', pg_class.oid::regclass,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
    FROM pg_class, aclexplode(relacl)
    WHERE pg_class.oid = %s::regclass AND privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE') AND grantee <> relowner
"""


def create_month(cursor, month: Month, append_only: bool, table: str | None = None) -> None:
    """Create the table of a month, with a constraint <its name>_bounds by which ATTACH need not read its rows.

    `table` is a name that it has for the time being. Raises PartitionError where there is something of its own name.
    """
    table = table or month.partition
    cursor.execute("SELECT to_regclass(%s)", [month.partition])
    if cursor.fetchone()[0] is not None:
        raise PartitionError(
            f"a table {month.partition} exists, but is no partition of audit_logs. "
            "Attach it, or rename it, and run this again."
        )
    cursor.execute(f"CREATE TABLE {table} (LIKE audit_logs INCLUDING ALL)")
    if append_only:
        refuse_change(cursor, table)
    cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {table}_bounds CHECK ({month.condition})")


def refuse_change(cursor, table: str) -> None:
    """What a partition does not get from its parent: a trigger, and that none but the owner may change rows."""
    cursor.execute(RIGHTS_TO_CHANGE, [table])
    for (revoke,) in cursor.fetchall():
        cursor.execute(revoke)
    cursor.execute(
        f"CREATE TRIGGER {TRUNCATE_TRIGGER} BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()"
    )


def horizon_trigger(month: Month) -> str:
    """The statement that lets no row of a month up to this one into DEFAULT: they find no other place any more."""
    return (
        f"CREATE OR REPLACE TRIGGER {INSERT_TRIGGER} BEFORE INSERT ON {DEFAULT_PARTITION} FOR EACH ROW "
        f"WHEN (NEW.created_at > '-infinity' AND NEW.created_at < '{month.end}') "
        "EXECUTE FUNCTION refuse_audit_insert()"
    )


def is_append_only(cursor) -> bool:
    """Whether the database is at the version that made the table append-only."""
    cursor.execute(
        "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'audit_logs'::regclass AND tgname = %s)",
        [TRUNCATE_TRIGGER],
    )
    return cursor.fetchone()[0]


def column_names(cursor, table: str = "audit_logs") -> list[str]:
    """The columns of a table, quoted: a partition may have them in another order than audit_logs."""
    cursor.execute(
        "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
        "AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
        [table],
    )
    return [name for (name,) in cursor.fetchall()]
