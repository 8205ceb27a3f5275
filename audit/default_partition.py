"""Emptying a full DEFAULT partition of audit_logs while everybody goes on: it changes places with a copy by months.

PostgreSQL attaches no month of which DEFAULT holds a row, and rows that go in small transactions from one table to
another are seen twice or not at all in between. So:

1. The months are made beside audit_logs, as partitions of `audit_move`, with a DEFAULT of its own for what is of
   no month here: rows at infinity, months that come later. A trigger mirrors into it what is written into DEFAULT, in
   the writer's transaction: a row and its copy are seen by the same.
2. What was there before is copied in small transactions. How far is kept in `audit_move_progress`.
3. Copies are seen by nobody whose snapshot is older. So every transaction is waited for that has one, as CREATE INDEX
   CONCURRENTLY does. From then on the two tables hold the same rows in every snapshot; that is verified in one.
4. In one short transaction DEFAULT is dropped, and the months and the new DEFAULT are attached; no row is read.

Killed in between, the next run goes on, or begins anew where audit_logs is not as it was. Whoever reads audit_logs sees
nothing of all this. https://www.postgresql.org/docs/current/sql-altertable.html (ATTACH PARTITION)
"""

import time
from collections.abc import Callable
from functools import partial

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from audit.months import Month, PartitionError, existing_partitions, months_in_default
from audit.partition_tables import INSERT_TRIGGER, column_names, create_month, is_append_only, refuse_change
from audit.short_locks import LOCK_TIMEOUT_MS, PartitionLockError, keep_vacuums_out, until_locks_are_got

Progress = Callable[[str, int], None]

# So many can be moved under the lock of DEFAULT, with time left before somebody waits for 50 ms.
FEW_ROWS = 200
FEW_BYTES = 4 * 2**20
# An UPDATE of a row (a name that is erased) waits for the batch that copies it.
ROWS_A_BATCH = 1_000
# Each costs 2 ms of the moment in which audit_logs is locked, beside 7 ms for all.
MONTHS_A_TURN = 4
# What is waited before that moment, and the moment, are to be less than 50 ms together.
CHANGE_LOCK_TIMEOUT_MS = LOCK_TIMEOUT_MS // 2
WAIT_FOR_SNAPSHOTS_S = 600

# As long as audit_logs is, so that names that PostgreSQL makes of it are cut at the same place.
MOVING = "audit_move"
MOVING_DEFAULT = "audit_move_default"
PROGRESS = "audit_move_progress"
MIRROR = "mirror_audit_row"  # the function, and its two triggers

# Written whatever the writer's rights are, and where a replica applies changes as well.
CREATE_MIRROR = """
    CREATE FUNCTION {schema}.mirror_audit_row() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        IF TG_OP IN ('DELETE', 'TRUNCATE') OR TG_OP = 'UPDATE' AND (NEW.id, NEW.created_at) <> (OLD.id, OLD.created_at)
        THEN
            RAISE object_in_use USING MESSAGE = format('%s on %s is refused, because auditpartitions moves its rows. '
                'Wait for its end.', TG_OP, TG_TABLE_NAME);
        END IF;
        -- Of a row that is changed, the copy may be there or not be made yet, but is not on its way: a batch and an
        -- UPDATE of many rows, each in its own order, would wait for each other.
        IF TG_OP = 'UPDATE' THEN
            PERFORM pg_advisory_xact_lock_shared(hashtextextended('audit_move', 0));
        END IF;
        INSERT INTO {schema}.audit_move ({columns}) VALUES ({new_columns})
        ON CONFLICT (id, created_at) DO UPDATE SET ({columns}) = ROW ({excluded_columns});
        RETURN NULL;
    END
    $$;
    REVOKE ALL ON FUNCTION {schema}.mirror_audit_row() FROM PUBLIC;
    CREATE TRIGGER mirror_audit_row AFTER INSERT OR UPDATE OR DELETE ON audit_logs_default
        FOR EACH ROW EXECUTE FUNCTION {schema}.mirror_audit_row();
    CREATE TRIGGER mirror_audit_row_truncate BEFORE TRUNCATE ON audit_logs_default
        FOR EACH STATEMENT EXECUTE FUNCTION {schema}.mirror_audit_row();
    ALTER TABLE audit_logs_default
        ENABLE ALWAYS TRIGGER mirror_audit_row, ENABLE ALWAYS TRIGGER mirror_audit_row_truncate
"""
# What the copy was made for: columns, rules, indexes and partitions of audit_logs, and the mirror itself.
SHAPE = """
    SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
        SELECT format('%s %s %s %s %s', attname, format_type(atttypid, atttypmod), attcollation::regcollation,
            attnotnull, pg_get_expr(adbin, adrelid))
        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = 'audit_logs'::regclass AND attnum > 0 AND NOT attisdropped
        UNION ALL SELECT format('%s %s', conname, pg_get_constraintdef(oid))
        FROM pg_constraint WHERE conrelid = 'audit_logs'::regclass AND contype <> 'n'
        UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'audit_logs'::regclass
        UNION ALL SELECT format('%s %s', inhrelid::regclass, pg_get_expr(relpartbound, inhrelid))
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'audit_logs'::regclass
        UNION ALL SELECT format('%s %s %s', oid, tgname, tgenabled)
        FROM pg_trigger WHERE tgrelid = 'audit_logs_default'::regclass AND tgname ~ '^mirror_audit_row'
    ) AS shape (line)
"""
# Views and publications know a table by its number, and would go on with the one that is dropped.
HANGING_ON_DEFAULT = """
    SELECT DISTINCT CASE WHEN classid = 'pg_rewrite'::regclass
        THEN 'the view ' || (SELECT ev_class::regclass::text FROM pg_rewrite WHERE oid = objid)
        ELSE pg_describe_object(classid, objid, objsubid) END
    FROM pg_depend
    WHERE refclassid = 'pg_class'::regclass AND refobjid = 'audit_logs_default'::regclass
      AND classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_publication_rel'::regclass)
    ORDER BY 1
"""
GRANTS_ON_DEFAULT = """
    SELECT format('GRANT %s ON audit_logs_default TO %s%s', privilege_type,
        CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = 'audit_logs_default'::regclass AND grantee <> relowner
"""
# By which it lets no row of a retired month in; the others come with the table's making, and from audit_logs.
TRIGGERS_OF_DEFAULT = """
    SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'audit_logs_default'::regclass AND tgname = %s
"""
COPY_A_BATCH = """
    WITH batch AS MATERIALIZED (
        SELECT {columns} FROM audit_logs_default
        WHERE (created_at, id) >= ((SELECT created_at FROM {progress}), (SELECT id FROM {progress}))
        ORDER BY created_at, id LIMIT {limit}
    ), copied AS (
        INSERT INTO {moving} ({columns}) SELECT {columns} FROM batch ON CONFLICT (id, created_at) DO NOTHING RETURNING 1
    ), noted AS (
        UPDATE {progress} SET (created_at, id) =
            (SELECT created_at, id FROM batch ORDER BY created_at DESC, id DESC LIMIT 1)
        WHERE EXISTS (SELECT FROM batch)
    )
    SELECT (SELECT count(*) FROM batch), (SELECT count(*) FROM copied)
"""
# Of another role's session only a member of pg_read_all_stats sees more than that it is there.
OPEN_SNAPSHOTS = """
    SELECT virtualtransaction, pid, format('pid %s (%s, user %s)', pid, coalesce(nullif(application_name, ''),
        'no application name'), usename)
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'virtualxid' AND virtualxid = virtualtransaction AND pid <> pg_backend_pid()
      AND datname = current_database() AND usesysid IS NOT NULL
      AND (state IS NULL OR state = 'disabled' OR backend_xmin IS NOT NULL)
    ORDER BY pid
"""
DIGESTS = """
    SELECT NULL, count(*), sum(hashtextextended(ROW({columns})::text, 0)::numeric) FROM audit_logs_default
    UNION ALL
    SELECT tableoid::regclass::text, count(*), sum(hashtextextended(ROW({columns})::text, 0)::numeric)
    FROM {moving} GROUP BY tableoid
"""


def is_to_be_emptied(connection: BaseDatabaseWrapper) -> bool:
    """Whether DEFAULT holds rows of months, and too many for being moved under its lock; or a run was interrupted."""
    with connection.cursor() as cursor:
        if _has_begun(cursor):
            return True
        cursor.execute(
            "SELECT pg_relation_size('audit_logs_default') > %s "
            "OR (SELECT count(*) FROM (SELECT FROM audit_logs_default LIMIT %s) AS few) > %s",
            [FEW_BYTES, FEW_ROWS + 1, FEW_ROWS],
        )
        (is_large,) = cursor.fetchone()
    return is_large and bool(months_in_default(connection))


def move_some(connection: BaseDatabaseWrapper, advance: Progress) -> dict[Month, int]:
    """Move the rows of up to MONTHS_A_TURN months out of DEFAULT; return of how many, by month.

    Rows that came after they were counted are moved as well, and not counted. Raises PartitionError.
    """
    _refuse_what_hinders(connection)
    _discard_what_does_not_fit(connection)
    months = _prepare(connection)
    while _copy_a_batch(connection, advance):
        pass
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(f"ANALYZE {MOVING}")
    _wait_for_snapshots(connection)
    rows = _verified_rows(connection, months)
    until_locks_are_got(
        partial(_change_places, connection, months),
        "the copied rows of audit_logs_default could not be put into their place",
        "other sessions hold locks on audit_logs",
    )
    return rows


def rows_of(connection: BaseDatabaseWrapper, month: Month) -> int:
    """How many rows of a month are in DEFAULT."""
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(f"SELECT count(*) FROM audit_logs_default WHERE {month.condition}")  # noqa: S608
        return cursor.fetchone()[0]


def _has_begun(cursor) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [MOVING])
    return cursor.fetchone()[0]


def _refuse_what_hinders(connection: BaseDatabaseWrapper) -> None:
    with connection.cursor() as cursor:
        if not is_append_only(cursor):
            raise PartitionError(
                f"audit_logs_default holds more than {FEW_ROWS} rows, which are moved while others write only where "
                "the table is append-only. Run manage.py migrate first."
            )
        cursor.execute(HANGING_ON_DEFAULT)
        hanging = [what for (what,) in cursor.fetchall()]
    if hanging:
        raise PartitionError(
            f"audit_logs_default is to be made anew, but {', '.join(hanging)} hangs on it. "
            "Drop that, run this again, and make it again afterwards."
        )


def _discard_what_does_not_fit(connection: BaseDatabaseWrapper) -> None:
    """Drop a copy that an interrupted run left, where audit_logs has got another shape since."""
    with connection.cursor() as cursor:
        if not _has_begun(cursor) or _is_in_shape(cursor):
            return
    until_locks_are_got(
        partial(_discard, connection),
        "the copy of audit_logs_default that an interrupted run left could not be dropped",
        "other sessions hold locks on audit_logs_default",
    )


def _is_in_shape(cursor) -> bool:
    cursor.execute(f"SELECT shape = ({SHAPE}) FROM {PROGRESS}")  # noqa: S608
    return cursor.fetchone() == (True,)


def _discard(connection: BaseDatabaseWrapper) -> None:
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        keep_vacuums_out(cursor, "audit_logs_default")
        cursor.execute("LOCK TABLE audit_logs_default IN ACCESS EXCLUSIVE MODE")
        cursor.execute(
            f"DROP TABLE {MOVING}, {PROGRESS}; "
            f"DROP TRIGGER IF EXISTS {MIRROR} ON audit_logs_default; "
            f"DROP TRIGGER IF EXISTS {MIRROR}_truncate ON audit_logs_default; "
            f"DROP FUNCTION IF EXISTS {MIRROR}()"
        )


def _prepare(connection: BaseDatabaseWrapper) -> list[Month]:
    """Make the tables and begin to mirror, unless an interrupted run has; return the months."""
    with connection.cursor() as cursor:
        has_begun = _has_begun(cursor)
    if not has_begun:
        months = months_in_default(connection)[:MONTHS_A_TURN]
        until_locks_are_got(
            partial(_begin, connection, months),
            "the rows of audit_logs_default could not begin to be moved",
            "other sessions write into it",
        )
    return sorted(existing_partitions(connection, MOVING))


def _moving(month: Month) -> str:
    """The name of a month's table until it is in its place: dbhealth must not take it for a partition of audit_logs."""
    return month.partition.replace("audit_logs", MOVING)


def _begin(connection: BaseDatabaseWrapper, months: list[Month]) -> None:
    beside = sorted({*months, *existing_partitions(connection)})
    of_default = " OR ".join(f"({month.condition})" for month in beside)
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        keep_vacuums_out(cursor, "audit_logs_default")
        cursor.execute(f"CREATE TABLE {MOVING} (LIKE audit_logs INCLUDING ALL) PARTITION BY RANGE (created_at)")
        for month in months:
            create_month(cursor, month, append_only=True, table=_moving(month))
            cursor.execute(f"ALTER TABLE {MOVING} ATTACH PARTITION {_moving(month)} {month.bounds}")
        cursor.execute(f"CREATE TABLE {MOVING_DEFAULT} (LIKE audit_logs_default INCLUDING ALL)")
        refuse_change(cursor, MOVING_DEFAULT)
        # With this constraint ATTACH need not read the rows again. PostgreSQL says the same of a DEFAULT, word by word.
        cursor.execute(
            f"ALTER TABLE {MOVING_DEFAULT} ADD CONSTRAINT {MOVING_DEFAULT}_bounds "
            f"CHECK (NOT (created_at IS NOT NULL AND ({of_default})))"
        )
        cursor.execute(f"ALTER TABLE {MOVING} ATTACH PARTITION {MOVING_DEFAULT} DEFAULT")
        names = column_names(cursor)
        cursor.execute("SELECT quote_ident(current_schema())")
        (schema,) = cursor.fetchone()
        mirror = CREATE_MIRROR.format(
            schema=schema,
            columns=", ".join(names),
            new_columns=", ".join(f"NEW.{name}" for name in names),
            excluded_columns=", ".join(f"EXCLUDED.{name}" for name in names),
        )
        cursor.execute(mirror)
        cursor.execute(
            f"CREATE TABLE {PROGRESS} AS SELECT ({SHAPE}) AS shape, '-infinity'::timestamptz AS created_at, "
            "'00000000-0000-0000-0000-000000000000'::uuid AS id"
        )


def _copy_a_batch(connection: BaseDatabaseWrapper, advance: Progress) -> bool:
    """Copy the next rows, in the order of their keys; whether there may be more."""
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [MOVING])  # see the mirror
        columns = ", ".join(column_names(cursor, MOVING))
        # The last row of the batch before is read again, so that it takes no other statement for the first batch.
        cursor.execute(COPY_A_BATCH.format(columns=columns, progress=PROGRESS, moving=MOVING, limit=ROWS_A_BATCH + 1))
        read, copied = cursor.fetchone()
    advance("DEFAULT", copied)
    return read > ROWS_A_BATCH


def _wait_for_snapshots(connection: BaseDatabaseWrapper) -> None:
    """Wait until every transaction has ended that may not see the copies. Raises PartitionLockError."""
    deadline = time.monotonic() + WAIT_FOR_SNAPSHOTS_S
    older: dict[str, str] | None = None
    while True:
        with connection.cursor() as cursor:
            cursor.execute(OPEN_SNAPSHOTS)
            open_now = {transaction_id: who for transaction_id, _, who in cursor.fetchall()}
        older = {key: who for key, who in open_now.items() if older is None or key in older}
        if not older:
            return
        if time.monotonic() > deadline:
            raise PartitionLockError(
                f"the rows of audit_logs_default are copied, but transactions that began before have been open for "
                f"{WAIT_FOR_SNAPSHOTS_S} seconds and more, and would not see them: {'; '.join(older.values())}. "
                "End them and run this again: it goes on from there."
            )
        time.sleep(0.05)


def _verified_rows(connection: BaseDatabaseWrapper, months: list[Month]) -> dict[Month, int]:
    """Compare DEFAULT with its copy, in one snapshot; return the rows of each month.

    Raises PartitionError where they differ, which takes somebody who has switched the triggers off.
    """
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(DIGESTS.format(columns=", ".join(column_names(cursor, MOVING)), moving=MOVING))
        (_, *original), *copies = cursor.fetchall()
    rows = {table: count for table, count, _ in copies}
    if original != [sum(rows.values()), sum(digest for _, _, digest in copies) if copies else None]:
        until_locks_are_got(
            partial(_discard, connection), "the copy could not be dropped", "other sessions hold locks on it"
        )
        raise PartitionError(
            "the copy of audit_logs_default is not equal to it, and was dropped: somebody has written with the "
            "triggers switched off. No row was moved. Run this again."
        )
    return {month: rows.get(_moving(month), 0) for month in months}


def _change_places(connection: BaseDatabaseWrapper, months: list[Month]) -> None:
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        moving = [MOVING, MOVING_DEFAULT, *(_moving(month) for month in months)]
        keep_vacuums_out(cursor, "audit_logs", "audit_logs_default", *moving)
        if not _is_in_shape(cursor):
            raise PartitionError(
                "audit_logs was changed while the rows of its DEFAULT partition were copied; none was moved. "
                "Run this again."
            )
        statements = _changing_places(cursor, months)
        cursor.execute(f"SET LOCAL lock_timeout = {CHANGE_LOCK_TIMEOUT_MS}")
        # In one message to the server, since everybody waits. Who comes by DEFAULT itself must not add to that.
        cursor.execute("; ".join(statements))


def _changing_places(cursor, months: list[Month]) -> list[str]:
    cursor.execute(GRANTS_ON_DEFAULT)
    grants = [grant for (grant,) in cursor.fetchall()]
    cursor.execute(TRIGGERS_OF_DEFAULT, [INSERT_TRIGGER])
    triggers = [trigger for (trigger,) in cursor.fetchall()]
    attach_months = [
        statement
        for month in months
        for statement in (
            f"ALTER TABLE {MOVING} DETACH PARTITION {_moving(month)}",
            *_renaming(cursor, _moving(month), month.partition),
            f"ALTER TABLE audit_logs ATTACH PARTITION {month.partition} {month.bounds}",
            f"ALTER TABLE {month.partition} DROP CONSTRAINT {_moving(month)}_bounds",
        )
    ]
    return [
        "LOCK TABLE ONLY audit_logs IN ACCESS EXCLUSIVE MODE",
        f"LOCK TABLE audit_logs_default, {MOVING} IN ACCESS EXCLUSIVE MODE NOWAIT",
        "ALTER TABLE audit_logs DETACH PARTITION audit_logs_default",
        "DROP TABLE audit_logs_default",
        f"DROP FUNCTION {MIRROR}()",
        *attach_months,
        f"ALTER TABLE {MOVING} DETACH PARTITION {MOVING_DEFAULT}",
        *_renaming(cursor, MOVING_DEFAULT, "audit_logs_default"),
        "ALTER TABLE audit_logs ATTACH PARTITION audit_logs_default DEFAULT",
        f"ALTER TABLE audit_logs_default DROP CONSTRAINT {MOVING_DEFAULT}_bounds",
        *grants,
        *triggers,
        f"DROP TABLE {MOVING}, {PROGRESS}",
    ]


def _renaming(cursor, table: str, name: str) -> list[str]:
    """What gives a table, its indexes and the constraints that these serve the name that they are to have."""
    cursor.execute(
        "SELECT quote_ident(relname), quote_ident(replace(relname, %s, %s)) "
        "FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = %s::regclass",
        [table, name, table],
    )
    indexes = [f"ALTER INDEX {old} RENAME TO {new}" for old, new in cursor.fetchall()]
    return [f"ALTER TABLE {table} RENAME TO {name}", *indexes]
