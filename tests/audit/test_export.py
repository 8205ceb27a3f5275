"""The log shipped elsewhere: every row once, whatever commits late, is backdated, or was there before the numbers."""

import base64
import random
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from audit.auditpartitions import make_months
from audit.export import FOREIGN, NUMBERED, UNNUMBERED, ExportCursorError, LostRowError, OtherClusterError, Position
from audit.models import AuditLog
from tests.clients import CLIENTS, Clients
from tests.conftest import database_url

pytestmark = pytest.mark.database

PATIENCE_S = 120
EVENT = {"action": "a", "resource_type": "r", "organization_id": "o"}
INSERT = "INSERT INTO audit_logs (organization_id, action, resource_type) VALUES ('o', %s, 'r')"
NUMBERED_INSERT = (
    "INSERT INTO audit_logs (organization_id, action, resource_type, transaction_id) VALUES ('o', %s, 'r', %s::xid8)"
)


@pytest.fixture(autouse=True)
def _connected(connected_to, migrated_database):
    with connected_to(migrated_database):
        yield


@pytest.fixture
def writer(server, migrated_database):
    """Another client."""
    with server.connect(migrated_database, "keyhub") as writer:
        writer.execute("SET TimeZone = 'UTC'")
        yield writer


class Reader:
    """Keeps `next`, as somebody does who ships the log."""

    def __init__(self, rows: int = 1_000, **filters):
        self.rows, self.filters, self.next = rows, filters, None

    def ask(self) -> list[str]:
        """The actions of one export."""
        export = AuditLog.objects.filter(**self.filters).export(self.next, rows=self.rows)
        self.next = export.next
        return [row.action for row in export.rows]

    def ask_for(self, number: int) -> list[str]:
        """Ask until so many rows have come, and once more. Other tests write in databases of the same cluster, and
        their transactions keep rows waiting."""
        actions, deadline = [], time.monotonic() + PATIENCE_S
        while len(actions) < number:
            assert time.monotonic() < deadline, actions
            new = self.ask()
            actions += new
            if not new:
                time.sleep(0.01)
        return actions + self.ask()


def record(*actions: str, **about) -> None:
    for action in actions:
        AuditLog.objects.record(action, "r", organization_id=about.get("organization_id", "o"))


def test_next_is_given_also_where_nothing_is_there():
    reader = Reader()
    assert (reader.ask(), reader.ask()) == ([], [])
    record("a", "b")
    assert reader.ask_for(2) == ["a", "b"]
    record("c")
    assert reader.ask_for(1) == ["c"]


@pytest.mark.parametrize("rows", [1, 2, 3, 6, 7, 8, 10_000])
def test_every_row_comes_once_whatever_its_time_and_place(rows):
    record("now")
    moments = [datetime.now(UTC) - timedelta(days=days) for days in (0, 1, 40, 400, 4000)]
    AuditLog.objects.ingest({**EVENT, "action": str(moment), "created_at": moment} for moment in moments)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audit_logs (organization_id, action, resource_type, created_at) "
            "VALUES ('o', 'inf', 'r', 'infinity')"
        )
    reader = Reader(rows)
    assert sorted(reader.ask_for(7)) == sorted(["now", "inf", *map(str, moments)])
    record("later")
    make_months("default")  # moves rows from DEFAULT into months
    assert reader.ask_for(1) == ["later"]


def test_what_is_committed_late_comes_late_and_is_not_passed_over(writer):
    reader = Reader()
    with writer.transaction():
        writer.execute(INSERT, ["slow"])
        record("quick")
        # It is committed, but has the larger number: behind it, the slow one would never be seen.
        assert (reader.ask(), reader.ask()) == ([], [])
    assert reader.ask_for(2) == ["slow", "quick"]


def test_what_is_rolled_back_holds_up_nothing(writer):
    reader = Reader()
    with writer.transaction(force_rollback=True):
        writer.execute(INSERT, ["never"])
        record("a")
        assert reader.ask() == []
    assert reader.ask_for(1) == ["a"]


def test_a_transaction_that_only_reads_holds_up_nothing(writer):
    with writer.transaction():
        writer.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        writer.execute("SELECT count(*) FROM audit_logs")
        record("a")
        assert Reader().ask_for(1) == ["a"]


def test_savepoints_have_the_number_of_their_transaction():
    reader = Reader()
    with transaction.atomic():
        record("a")
        with transaction.atomic():
            record("b")
        sid = transaction.savepoint()
        record("never")
        transaction.savepoint_rollback(sid)
        record("c")
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()::text::bigint")
            (number,) = cursor.fetchone()
    assert sorted(reader.ask_for(3)) == ["a", "b", "c"]
    assert set(AuditLog.objects.values_list("transaction_id", flat=True)) == {number}


def test_rows_of_the_callers_own_transaction_come_when_it_has_ended():
    reader = Reader()
    with transaction.atomic():
        record("own")
        assert (reader.ask(), reader.ask()) == ([], [])
    assert reader.ask_for(1) == ["own"]


def test_a_snapshot_older_than_the_cursor_passes_over_nothing(writer):
    """It does not see what the cursor was promised to have seen."""
    reader = Reader()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM audit_logs")
        writer.execute(INSERT, ["a"])
        assert reader.ask() == []
        reader.next = behind("a", reader.next)
        writer.execute(INSERT, ["b"])
        assert reader.ask() == []
        reader.next = behind("b", reader.next)
        writer.execute(INSERT, ["c"])
        assert (reader.ask(), reader.ask()) == ([], [])
    assert reader.ask_for(1) == ["c"]


def behind(action: str, since: str) -> str:
    """`next` of an export of this one row, from another connection."""

    def export() -> str:
        reader = Reader()
        reader.next = since
        try:
            assert reader.ask_for(1) == [action]
            return reader.next
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(export).result()


def test_of_one_organization_alone_without_looking_through_the_same_rows_again():
    record("a", organization_id="rare")
    reader = Reader(organization_id="rare")
    assert reader.ask_for(1) == ["a"]
    record(*map(str, range(10)))
    newest = AuditLog.objects.latest("transaction_id").transaction_id
    deadline = time.monotonic() + PATIENCE_S
    while Position.of(reader.next).exported_below <= newest:
        assert time.monotonic() < deadline
        assert reader.ask() == []
    exported_below = Position.of(reader.next).exported_below
    with CaptureQueriesContext(connection) as queries:
        reader.ask()
    assert f""""transaction_id" >= '{exported_below}'""" in queries[-1]["sql"]
    record("b", organization_id="rare")
    assert reader.ask_for(1) == ["b"]


# Rows without a number of this cluster's


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 100])
def test_rows_from_before_the_numbers_come_first(writer, rows):
    for number in range(4):
        writer.execute(NUMBERED_INSERT, [f"old {number}", None])
    record("new")
    found = Reader(rows).ask_for(5)
    assert (sorted(found[:4]), found[4:]) == ([f"old {number}" for number in range(4)], ["new"])


def test_the_smallest_of_all_ids_is_no_exception(writer):
    writer.execute(
        "INSERT INTO audit_logs (id, organization_id, action, resource_type, transaction_id) "
        "VALUES (%s, 'o', 'a', 'r', NULL)",
        [uuid.UUID(int=0)],
    )
    assert Reader(1).ask_for(1) == ["a"]


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_rows_of_a_restored_database_come_in_the_first_round(writer, rows):
    """Their numbers are of a counter that was far ahead of this cluster's, and the largest that there is."""
    for number in (3, 2**40, 2**40 + 1, 2**64 - 1):
        writer.execute(NUMBERED_INSERT, [str(number), str(number)])
    record("new")
    reader = Reader(rows)
    assert sorted(reader.ask_for(5)) == sorted(map(str, (3, 2**40, 2**40 + 1, 2**64 - 1, "new")))
    record("newer")
    assert reader.ask_for(1) == ["newer"]


def test_when_the_counter_reaches_them_they_come_again_and_none_is_passed_over(writer):
    (next_number,) = writer.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
    for ahead in (400, 401):
        writer.execute(NUMBERED_INSERT, [f"foreign {ahead}", str(next_number + ahead)])
    reader = Reader()
    assert reader.ask() == ["foreign 400", "foreign 401"]
    record(*map(str, range(500)))
    assert sorted(reader.ask_for(502)) == sorted([*map(str, range(500)), "foreign 400", "foreign 401"])


def test_rows_committed_while_the_foreign_ones_are_read_come_once(writer):
    for number in range(3):
        writer.execute(NUMBERED_INSERT, [f"foreign {number}", str(2**40 + number)])
    reader = Reader(1)
    found = reader.ask()
    record("meanwhile")
    assert found + reader.ask_for(3) == [*(f"foreign {number}" for number in range(3)), "meanwhile"]


# Cursors


def at(**changes) -> str:
    return replace(Position.of(AuditLog.objects.export().next), **changes).cursor


def test_a_cursor_of_another_cluster_is_refused():
    with pytest.raises(OtherClusterError) as refusal:
        AuditLog.objects.export(at(cluster=7))
    assert str(refusal.value) == (
        "The cursor is of another database cluster, which has numbers of its own for its transactions. Begin the "
        "export anew without one, and know rows that come again by their ids."
    )


def test_after_a_failover_it_goes_on_where_nothing_was_lost():
    record("a", "b")
    reader = Reader()
    assert reader.ask_for(2) == ["a", "b"]
    record("c")
    # What the other primary promised of rows behind the last one holds no more.
    reader.next = replace(Position.of(reader.next), timeline=99, exported_below=2**50).cursor
    assert reader.ask_for(1) == ["c"]
    assert Position.of(reader.next).timeline == 1


def test_after_a_recovery_that_has_lost_rows_it_is_refused():
    with pytest.raises(LostRowError) as refusal:
        AuditLog.objects.export(at(timeline=99, transaction_id=5, id=uuid.uuid4()))
    assert str(refusal.value) == (
        "The database was recovered or failed over since, and the last row that was exported is not there any more. "
        "Begin the export anew without a cursor, and know rows that come again by their ids."
    )


@pytest.mark.parametrize("part", [UNNUMBERED, FOREIGN, NUMBERED])
def test_after_a_failover_before_any_row_of_a_part_all_of_them_come(part):
    record("a")
    reader = Reader()
    reader.next = at(timeline=99, part=part, id=uuid.UUID(int=0), transaction_id=0, exported_below=2**50)
    assert reader.ask_for(1) == ["a"]


MALFORMED = ["x", "é", "AAAA", base64.urlsafe_b64encode(b"\x7f" * 46).decode(), "a" * 1000, "\0"]


@pytest.mark.parametrize("cursor", MALFORMED, ids=ascii)
def test_a_cursor_of_somebody_elses(cursor):
    with pytest.raises(ExportCursorError) as refusal:
        AuditLog.objects.export(cursor)
    assert str(refusal.value) == (
        "The cursor of the export is malformed. Take `next` of the last export, or begin without one."
    )


def test_a_cursor_of_a_page_is_none_of_an_export():
    record("a", "b")
    with pytest.raises(ExportCursorError):
        AuditLog.objects.export(AuditLog.objects.page(rows=1).next)


def test_a_cursor_with_a_part_that_there_is_not():
    with pytest.raises(ExportCursorError):
        AuditLog.objects.export(at(part=3))


@pytest.mark.parametrize("rows", [0, -1, 10_001])
def test_an_export_has_a_size(rows):
    with pytest.raises(ValueError, match=rf"^An export has 1 to 10000 rows, not {rows}\.$"):
        AuditLog.objects.export(rows=rows)


def test_the_asynchronous_twin():
    async def export() -> list[AuditLog]:
        return (await AuditLog.objects.aexport()).rows

    record("a")
    deadline = time.monotonic() + PATIENCE_S
    while not (rows := async_to_sync(export)()):
        assert time.monotonic() < deadline
    assert [row.action for row in rows] == ["a"]


# Many at once


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_32_writers_and_readers_that_are_killed(server, migrated_database, isolation):
    """Writers that commit late, roll back, use savepoints, backdate and ingest; each reader loses its connection again
    and again, and goes on from the cursor that it kept. None misses a row, and none gets one twice.
    """
    stop, committed = threading.Event(), []

    def read(seed: int) -> list[str]:
        chance = random.Random(seed)  # noqa: S311 a schedule that can be had again
        reader, found = Reader(rows=(29, 200, 1_000)[seed]), []
        try:
            while not stop.is_set():
                if chance.random() < 0.3:
                    kept = reader.next
                    reader.ask()  # arrives nowhere: the reader dies before it has kept anything
                    connection.close()
                    reader.next = kept
                with transaction.atomic() if chance.random() < 0.3 else nothing():
                    found += reader.ask()
            return found + reader.ask_for(len(committed) - len(found))
        finally:
            connection.close()

    url = database_url(server, migrated_database)
    with ThreadPoolExecutor(3) as pool, Clients(url, "tests.audit.writers:write", isolation) as clients:
        readers = [pool.submit(read, seed) for seed in range(3)]
        try:
            for number in range(2):
                arguments = [[f"{number}-{client}"] for client in range(CLIENTS)]
                committed += [action for actions in clients.at_once(arguments) for action in actions]
        finally:
            stop.set()
    assert len(committed) > CLIENTS * 5
    with server.connect(migrated_database, "keyhub") as client:
        assert sorted(action for (action,) in client.execute("SELECT action FROM audit_logs")) == sorted(committed)
    for reader in readers:
        found = reader.result()
        assert len(found) == len(set(found))
        assert sorted(found) == sorted(committed)


@contextmanager
def nothing():
    yield


# The column


def test_the_column_is_the_databases(writer):
    row = AuditLog.objects.record("a", "r", organization_id="o")
    (number,) = writer.execute("SELECT transaction_id::text::bigint FROM audit_logs").fetchone()
    assert (row.transaction_id, AuditLog.objects.get().transaction_id) == (number, number)
    AuditLog.objects.ingest([EVENT, EVENT])
    numbers = AuditLog.objects.exclude(pk=row.pk).values_list("transaction_id", flat=True)
    assert len(set(numbers)) == 1
    assert numbers[0] > number
    assert AuditLog.objects.filter(transaction_id__gt=number).count() == 2


def test_rows_of_before_the_column_have_no_number(manage, migrated_database, writer):
    assert manage("migrate", "audit", "0009", "-v0", database=migrated_database).returncode == 0
    writer.execute(INSERT, ["old"])
    files = (
        "SELECT array_agg(relfilenode ORDER BY oid) FROM pg_class WHERE relname LIKE 'audit_logs%' AND relkind = 'r'"
    )
    before = writer.execute(files).fetchone()
    assert manage("migrate", "audit", "0010", "-v0", database=migrated_database).returncode == 0
    assert writer.execute(files).fetchone() == before  # nothing was rewritten
    assert manage("migrate", "-v0", database=migrated_database).returncode == 0
    record("new")
    assert Reader().ask_for(2) == ["old", "new"]
    assert AuditLog.objects.get(action="old").transaction_id is None


# The planner


def plans_of(since: str | None, rows: int) -> list[str]:
    """EXPLAIN ANALYZE of each statement that reads rows for an export."""
    plans, explaining = [], False

    def explain(execute, sql, params, many, context):
        nonlocal explaining
        if sql.startswith("SELECT") and 'FROM "audit_logs"' in sql and not explaining:
            explaining = True
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN ANALYZE {sql}", params)
                plans.append("\n".join(line for (line,) in cursor.fetchall()))
            explaining = False
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        AuditLog.objects.export(since, rows=rows)
    return plans


def test_each_part_is_read_in_the_order_of_the_index_in_every_partition(writer):
    """Also where the planner knows nothing of the rows of one big transaction: no more of them are read than asked."""
    with writer.transaction():
        writer.execute(NUMBERED_INSERT, ["old", None])
        writer.execute(NUMBERED_INSERT, ["foreign", str(2**40)])
    AuditLog.objects.ingest({**EVENT, "action": str(number)} for number in range(5_000))
    reader = Reader(500)
    before = reader.next
    assert len(reader.ask_for(5_002)) == 5_002
    (partitions,) = writer.execute(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass"
    ).fetchone()
    first, second = plans_of(before, 500), plans_of(AuditLog.objects.export(rows=500).next, 500)
    assert (len(first), len(second)) == (3, 1)
    for plan in first + second:
        scans = re.findall(r"(\w+ Scan) using (\w+) on (\w+)", plan)
        assert len(scans) == len(re.findall(r"\w+ Scan ", plan)) == partitions, plan
        assert {(kind, index) for kind, index, _ in scans} == {
            ("Index Scan", f"{partition}_transaction_id_id_idx") for *_, partition in scans
        }
        assert ("Merge Append" in plan, "Sort  (" in plan) == (True, False)
        assert all(float(rows) <= 501 for rows in re.findall(r"actual time=\S+ rows=(\S+)", plan)), plan


def test_the_planner_sorts_again_afterwards():
    with transaction.atomic(), connection.cursor() as cursor:
        AuditLog.objects.export()
        cursor.execute("SHOW enable_sort")
        assert cursor.fetchone() == ("on",)
