"""The months of audit_logs: made ahead, by UTC, without loss, from two places at once, and while writers write."""

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from io import StringIO

import psycopg
import pytest
from django.core.management import CommandError, call_command

from audit import short_locks
from audit.models import AuditLog
from audit.months import Month
from tests.conftest import database_url
from tests.processes import Run

BOUNDS = """
    SELECT relname, pg_get_expr(relpartbound, pg_class.oid)
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'audit_logs'::regclass ORDER BY relname
"""
INSERT = (
    "INSERT INTO audit_logs (organization_id, action, resource_type, resource_id, created_at) "
    "VALUES ('o', 'a', 'r', %s, %s)"
)


def partitions(owner) -> dict[str, str]:
    return dict(owner.execute(BOUNDS).fetchall())


def bounds(month: Month) -> str:
    following = month.plus(1)
    return (
        f"FOR VALUES FROM ('{month.year}-{month.number:02}-01 00:00:00+00') "
        f"TO ('{following.year}-{following.number:02}-01 00:00:00+00')"
    )


def test_months_follow_each_other():
    assert [str(Month(2026, 11).plus(months)) for months in (0, 1, 2, 14, -11)] == [
        "2026-11",
        "2026-12",
        "2027-01",
        "2028-01",
        "2025-12",
    ]


def test_the_migration_makes_four_months_and_a_default(owner, this_month):
    expected = {this_month.plus(n).partition: bounds(this_month.plus(n)) for n in range(4)}
    assert partitions(owner) == {**expected, "audit_logs_default": "DEFAULT"}


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles"])
def test_the_migration_gives_utc_months_in_every_time_zone(server, manage, empty_database, zone):
    with server.connect() as admin:
        admin.execute(f"ALTER ROLE keyhub IN DATABASE {empty_database} SET TimeZone = '{zone}'")
    assert manage("migrate", "audit", "-v0", database=empty_database).returncode == 0
    with server.connect(empty_database, "keyhub") as owner:
        owner.execute("SET TimeZone = 'UTC'")
        found = partitions(owner)
        now = owner.execute("SELECT statement_timestamp() AT TIME ZONE 'UTC'").fetchone()[0]
    assert found[Month.of(now).partition] == bounds(Month.of(now))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_the_months_at_the_end_of_a_year(server, manage, empty_database, zone):
    def set_clock(moment: str) -> None:
        with server.connect(empty_database, "keyhub") as owner:
            owner.execute(
                "CREATE OR REPLACE FUNCTION public.statement_timestamp() RETURNS timestamptz STABLE LANGUAGE sql "
                f"AS $$SELECT timestamptz '{moment}'$$"
            )

    def months() -> list[str]:
        with server.connect(empty_database, "keyhub") as owner:
            return sorted(set(partitions(owner)) - {"audit_logs_default"})

    with server.connect(empty_database) as admin:
        settings = {"TimeZone": f"'{zone}'", "search_path": "public, pg_catalog"}  # public's clock, not pg_catalog's
        for name, value in settings.items():
            admin.execute(f"ALTER ROLE keyhub IN DATABASE {empty_database} SET {name} = {value}")
    set_clock("2026-12-31 23:59:59.999999+00")
    assert manage("migrate", "audit", "-v0", database=empty_database).returncode == 0
    four = ["audit_logs_2026_12", "audit_logs_2027_01", "audit_logs_2027_02", "audit_logs_2027_03"]
    assert months() == four
    set_clock("2027-01-01 00:00:00+00")
    assert manage("auditpartitions", database=empty_database).stdout == "audit_logs_2027_04: made\n"
    assert months() == [*four, "audit_logs_2027_04"]


def test_rows_go_to_the_month_of_their_utc_time(owner, this_month):
    following = this_month.plus(1)
    owner.execute("SET TimeZone = 'Asia/Tokyo'")
    owner.execute(INSERT, ["last moment", f"{following.year}-{following.number:02}-01 08:59:59.999999+09"])
    owner.execute(INSERT, ["first moment", f"{following.year}-{following.number:02}-01 09:00:00+09"])
    found = dict(owner.execute("SELECT resource_id, tableoid::regclass::text FROM audit_logs").fetchall())
    assert found == {"last moment": this_month.partition, "first moment": following.partition}


def test_nothing_to_do(manage, migrated_database, this_month):
    result = manage("auditpartitions", database=migrated_database)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"Nothing to do: every month up to {this_month.plus(3)} has its partition.\n"


def test_months_ahead_are_made_as_the_migration_makes_them(manage, migrated_database, owner, this_month):
    result = manage("auditpartitions", "--ahead", "5", database=migrated_database)
    assert result.stdout == f"{this_month.plus(4).partition}: made\n{this_month.plus(5).partition}: made\n"
    assert partitions(owner)[this_month.plus(5).partition] == bounds(this_month.plus(5))

    def shape(month: Month) -> list[tuple]:
        definitions = owner.execute(
            "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %(table)s::regclass UNION ALL "
            "SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %(table)s::regclass "
            "AND contype <> 'n' UNION ALL "
            "SELECT attname || attnotnull || coalesce(pg_get_expr(adbin, adrelid), '') FROM pg_attribute "
            "LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum "
            "WHERE attrelid = %(table)s::regclass AND attnum > 0 UNION ALL "
            "SELECT parent.inhparent::regclass::text FROM pg_inherits AS parent JOIN pg_index ON inhrelid = indexrelid "
            "WHERE indrelid = %(table)s::regclass",
            {"table": month.partition},
        )
        return sorted(text.replace(month.partition, "MONTH") for (text,) in definitions.fetchall())

    assert shape(this_month.plus(5)) == shape(this_month)


def test_rows_in_default_are_moved_to_their_month(manage, migrated_database, owner):
    for resource, moment in [
        ("a", "2020-02-29 23:59:59+00"),
        ("b", "2020-02-01 00:00:00+00"),
        ("c", "2031-07-15 12:00:00+00"),
        ("d", "infinity"),
        ("e", "-infinity"),
    ]:
        owner.execute(INSERT, [resource, moment])
    rows_before = owner.execute("SELECT row_to_json(audit_logs)::text FROM audit_logs ORDER BY 1").fetchall()
    result = manage("auditpartitions", database=migrated_database)
    assert (result.returncode, result.stdout) == (
        0,
        "audit_logs_2020_02: made, 2 rows moved from DEFAULT\naudit_logs_2031_07: made, 1 row moved from DEFAULT\n",
    )
    assert owner.execute("SELECT row_to_json(audit_logs)::text FROM audit_logs ORDER BY 1").fetchall() == rows_before
    assert dict(owner.execute("SELECT resource_id, tableoid::regclass::text FROM audit_logs").fetchall()) == {
        "a": "audit_logs_2020_02",
        "b": "audit_logs_2020_02",
        "c": "audit_logs_2031_07",
        "d": "audit_logs_default",
        "e": "audit_logs_default",
    }


def test_json_goes_to_stdout_alone(manage, migrated_database, owner):
    owner.execute(INSERT, ["a", "2020-02-29 23:59:59+00"])
    result = manage("auditpartitions", "--format", "json", database=migrated_database)
    assert json.loads(result.stdout) == {"made": ["audit_logs_2020_02"], "moved": {"audit_logs_2020_02": 1}}
    assert result.stderr == ""


def test_a_plan_tells_and_changes_nothing(manage, migrated_database, owner, this_month, schema_dump):
    owner.execute(INSERT, ["a", "2020-02-29 23:59:59+00"])
    before = schema_dump(migrated_database)
    result = manage("auditpartitions", "--plan", "--ahead", "4", database=migrated_database)
    ahead = this_month.plus(4).partition
    assert (result.returncode, result.stdout, result.stderr) == (
        0,
        f"audit_logs_2020_02: would be made, and about 1 row moved from DEFAULT\n{ahead}: would be made\n",
        "",
    )
    result = manage("auditpartitions", "--plan", "--ahead", "4", "--format", "json", database=migrated_database)
    assert json.loads(result.stdout) == {
        "would_make": ["audit_logs_2020_02", ahead],
        "would_move": {"audit_logs_2020_02": 1},
    }
    assert schema_dump(migrated_database) == before
    assert owner.execute("SELECT count(*) FROM audit_logs_default").fetchone() == (1,)
    assert manage("auditpartitions", database=migrated_database).returncode == 0
    result = manage("auditpartitions", "--plan", database=migrated_database)
    assert result.stdout == f"Nothing to do: every month up to {this_month.plus(3)} has its partition.\n"


def test_eight_at_once_make_each_month_once(manage, migrated_database, owner, this_month):
    with ThreadPoolExecutor(8) as pool:
        results = list(
            pool.map(lambda _: manage("auditpartitions", "--ahead", "12", database=migrated_database), range(8))
        )
    assert [result.returncode for result in results] == [0] * 8
    made = [line for result in results for line in result.stdout.splitlines() if line.endswith(": made")]
    assert sorted(made) == sorted(f"{this_month.plus(n).partition}: made" for n in range(4, 13))
    assert len(partitions(owner)) == 14


def test_writers_go_on_and_no_row_is_lost(server, manage, migrated_database, owner):
    """Rows of a month without a partition keep coming into DEFAULT while that month is made."""
    stop = threading.Event()
    written = {"now": 0, "old": 0}
    refused = 0

    def write() -> None:
        nonlocal refused
        with server.connect(migrated_database, "keyhub") as connection:
            while not stop.is_set():
                connection.execute(INSERT, ["now", "now"])
                written["now"] += 1
                try:
                    connection.execute(INSERT, ["old", "2020-02-10 00:00:00+00"])
                    written["old"] += 1
                except psycopg.errors.CheckViolation:
                    # The row was on its way into DEFAULT when its month came into being: PostgreSQL refuses it.
                    refused += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        result = manage("auditpartitions", "--ahead", "8", database=migrated_database)
    finally:
        stop.set()
        writer.join()
    assert result.returncode == 0, result.stderr
    counted = dict(owner.execute("SELECT resource_id, count(*) FROM audit_logs GROUP BY 1").fetchall())
    assert counted == written
    assert refused <= 1


def test_a_reader_that_holds_audit_logs_makes_it_give_up_cleanly(
    migrated_database, server, owner, this_month, connected_to, monkeypatch
):
    monkeypatch.setattr(short_locks, "TRIES", 3)
    before = partitions(owner)
    with connected_to(migrated_database):
        with server.connect(migrated_database, "keyhub") as holder, holder.transaction():
            holder.execute("LOCK TABLE audit_logs_default IN ACCESS SHARE MODE")
            with pytest.raises(CommandError) as gave_up:
                call_command("auditpartitions", "--ahead", "4")
        assert gave_up.value.returncode == 4
        assert str(gave_up.value) == (
            f"the partition {this_month.plus(4).partition} could not be made in 3 tries, because other sessions hold "
            "locks on audit_logs (canceling statement due to lock timeout). End the long transactions and run it again."
        )
        assert partitions(owner) == before
        call_command("auditpartitions", "--ahead", "4", stdout=StringIO())
    assert this_month.plus(4).partition in partitions(owner)


def test_a_vacuum_is_waited_for_in_patience(migrated_database, server, owner, this_month, connected_to, monkeypatch):
    """It would be in the way of a short wait for as long as it takes, and nobody has to wait meanwhile."""
    monkeypatch.setattr(short_locks, "TRIES", 1)
    with server.connect(migrated_database, "keyhub") as vacuum, connected_to(migrated_database):
        vacuum.execute("BEGIN; LOCK TABLE audit_logs_default IN SHARE UPDATE EXCLUSIVE MODE")
        timer = threading.Timer(0.5, lambda: vacuum.execute("ROLLBACK"))
        timer.start()
        call_command("auditpartitions", "--ahead", "4", stdout=StringIO())
        timer.join()
    assert this_month.plus(4).partition in partitions(owner)


@pytest.mark.once
def test_killed_at_any_moment_it_can_be_run_again(server, migrated_database, owner, this_month, manage):
    """kill -9 amid the months, five times: no row lost or doubled, no half-made month."""
    for resource in range(200):
        owner.execute(INSERT, [str(resource), f"20{resource % 20:02}-02-01 00:00:00+00"])
    environment = {**os.environ, "DATABASE_URL": database_url(server, migrated_database)}
    command = ["auditpartitions", "--ahead", "60"]
    for _ in range(5):
        before = len(partitions(owner))
        process = Run(*command, env=environment)
        while len(partitions(owner)) < before + 3:
            assert process.poll() is None
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert owner.execute("SELECT count(*), count(DISTINCT resource_id) FROM audit_logs").fetchone() == (200, 200)
    assert manage(*command, database=migrated_database).returncode == 0
    assert owner.execute("SELECT count(*), count(DISTINCT resource_id) FROM audit_logs").fetchone() == (200, 200)
    assert owner.execute("SELECT count(*) FROM audit_logs_default").fetchone() == (0,)
    assert this_month.plus(60).partition in partitions(owner)


def test_a_table_in_the_way_is_named(manage, migrated_database, owner, this_month):
    owner.execute(f"CREATE TABLE {this_month.plus(4).partition} ()")
    result = manage("auditpartitions", "--ahead", "4", database=migrated_database)
    assert (result.returncode, result.stderr) == (
        1,
        f"CommandError: a table {this_month.plus(4).partition} exists, but is no partition of audit_logs. "
        "Attach it, or rename it, and run this again.\n",
    )


def test_a_partition_made_by_hand_counts_by_its_bounds(manage, migrated_database, owner, this_month):
    month = this_month.plus(4)
    owner.execute(f"CREATE TABLE handmade PARTITION OF audit_logs FOR VALUES FROM ('{month.start}') TO ('{month.end}')")
    result = manage("auditpartitions", "--ahead", "4", database=migrated_database)
    assert (result.returncode, result.stdout) == (
        0,
        f"Nothing to do: every month up to {month} has its partition.\n",
    )


def test_an_overlapping_partition_is_named(manage, migrated_database, owner, this_month):
    month = this_month.plus(4)
    owner.execute(
        f"CREATE TABLE quarter PARTITION OF audit_logs FOR VALUES FROM ('{month.start}') TO ('{month.plus(3).start}')"
    )
    result = manage("auditpartitions", "--ahead", "4", database=migrated_database)
    assert result.returncode == 1
    assert "the partitions could not be made: " in result.stderr
    assert 'would overlap partition "quarter"' in result.stderr
    assert "Traceback" not in result.stderr


def test_the_limits_of_the_services_role_do_not_stop_it(server, manage, migrated_database, owner):
    owner.execute(INSERT, ["a", "2020-02-29 23:59:59+00"])
    # Moving takes a while, as with many rows.
    owner.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); RETURN OLD; END';"
        "CREATE TRIGGER wait BEFORE DELETE ON audit_logs_default FOR EACH ROW EXECUTE FUNCTION wait()"
    )
    with server.connect() as admin:
        admin.execute(f"ALTER ROLE keyhub IN DATABASE {migrated_database} SET statement_timeout = '300ms'")
    result = manage("auditpartitions", database=migrated_database)
    assert (result.returncode, result.stdout, result.stderr) == (
        0,
        "audit_logs_2020_02: made, 1 row moved from DEFAULT\n",
        "",
    )


def test_a_server_that_only_reads_is_one_sentence(server, manage, migrated_database, owner):
    with server.connect() as admin:
        admin.execute(f"ALTER ROLE keyhub IN DATABASE {migrated_database} SET default_transaction_read_only = on")
    result = manage("auditpartitions", "--ahead", "4", database=migrated_database)
    assert (result.returncode, result.stdout, result.stderr) == (
        1,
        "",
        "CommandError: the partitions could not be made: cannot execute CREATE TABLE in a read-only transaction\n",
    )


def test_before_migrate(manage, empty_database):
    result = manage("auditpartitions", database=empty_database)
    assert (result.returncode, result.stderr) == (
        1,
        "CommandError: the table audit_logs does not exist yet. Run manage.py migrate first.\n",
    )


@pytest.mark.parametrize("months", ["-1", "x", "99999"])
def test_a_bad_number_of_months_is_wrong_use(manage, migrated_database, months):
    result = manage("auditpartitions", f"--ahead={months}", database=migrated_database)
    assert result.returncode == 2
    assert "argument --ahead: " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.django_db
def test_a_new_month_takes_no_strong_lock_on_the_table(django_assert_num_queries):
    """audit_logs itself gets SHARE UPDATE EXCLUSIVE, under which readers and writers go on; users and tenants none."""
    from django.db import connection, transaction

    from audit import auditpartitions

    with transaction.atomic():
        month = auditpartitions.wanted_months(connection, 4)[-1]
        auditpartitions._make_month(connection, month)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT relation::regclass::text, mode FROM pg_locks "
                "WHERE pid = pg_backend_pid() AND locktype = 'relation'"
            )
            locks = cursor.fetchall()
    assert {mode for table, mode in locks if table == "audit_logs"} <= {"AccessShareLock", "ShareUpdateExclusiveLock"}
    assert {table for table, _ in locks} & {"users", "tenants"} == set()


@pytest.mark.django_db
def test_deleting_a_user_keeps_the_evidence():
    from tests.factories import AuditLogFactory, UserFactory

    alice = UserFactory(email="alice@example.com")
    row = AuditLogFactory(user_id=alice.pk, actor_label=alice.email)
    alice.delete()
    row = AuditLog.objects.get(pk=row.pk)
    assert row.actor_label == "alice@example.com"
    assert row.user_id is not None
