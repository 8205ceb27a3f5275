"""A full DEFAULT partition is emptied while everybody goes on: no row is ever lost, doubled or out of sight."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from audit import auditpartitions, default_partition, names, short_locks
from audit.months import PartitionError
from keyhub import dbhealth
from tests.conftest import REPOSITORY, database_url
from tests.processes import Run

ALICE = "00000000-0000-0000-0000-00000000000a"
BOB = "00000000-0000-0000-0000-00000000000b"
FILL = """
    INSERT INTO audit_logs (organization_id, user_id, actor_label, action, resource_type, resource_id, created_at)
    SELECT 'ORG', CASE WHEN n % 100 = 0 THEN '{alice}' ELSE '{bob}' END::uuid, 'somebody', 'a', 'old', n::text,
        '2020-01-15 00:00:00+00'::timestamptz + n * interval '{apart}' FROM generate_series(1, {rows}) AS n
"""
INSERT = (
    "INSERT INTO audit_logs (organization_id, action, resource_type, resource_id, created_at) "
    "VALUES ('o', 'a', 'new', %s, %s)"
)
DIGEST = "SELECT count(*), sum(hashtextextended(audit_logs::text, 0)::numeric) FROM audit_logs"
BY_PARTITION = "SELECT tableoid::regclass::text, count(*) FROM audit_logs GROUP BY 1"


def fill(owner, rows: int, apart: str = "1 minute") -> None:
    owner.execute(FILL.format(alice=ALICE, bob=BOB, rows=rows, apart=apart))


def digest(owner) -> tuple:
    return owner.execute(DIGEST).fetchone()


def by_partition(owner) -> dict[str, int]:
    return dict(owner.execute(BY_PARTITION).fetchall())


@pytest.fixture
def full(owner) -> tuple:
    """DEFAULT holds 2,000 rows of two months; how many, and their digest."""
    fill(owner, 2_000, apart="20 minutes")
    return digest(owner)


@pytest.fixture
def move(connected_to, migrated_database, monkeypatch) -> Callable:
    """Make the months, in batches of 100 rows; `advance` is called after each."""
    monkeypatch.setattr(default_partition, "ROWS_A_BATCH", 100)

    def move(advance: Callable = lambda what, rows: None):
        with connected_to(migrated_database):
            return auditpartitions.make_months("default", advance=advance)

    return move


def once(action: Callable[[], object]) -> Callable[[str, int], None]:
    """An `advance` that acts after the first batch."""
    left = [action]

    def advance(what: str, rows: int) -> None:
        if left:
            left.pop()()

    return advance


def interrupt() -> None:
    raise KeyboardInterrupt


def is_left(owner) -> bool:
    return owner.execute(
        "SELECT count(*) FROM pg_class WHERE relname ~ '^audit_move' UNION ALL "
        "SELECT count(*) FROM pg_trigger WHERE tgname ~ '^mirror_audit_row' UNION ALL "
        "SELECT count(*) FROM pg_proc WHERE proname = 'mirror_audit_row'"
    ).fetchall() != [(0,), (0,), (0,)]


# Under way


class Client:
    """Does something again and again, in a thread, until it is stopped."""

    def __init__(self, server, database: str, work: Callable):
        self.connection = server.connect(database, "keyhub")
        self.work = work
        self.stopped = threading.Event()
        self.turns = 0
        self._thread = ThreadPoolExecutor(1)

    def start(self) -> None:
        self._run = self._thread.submit(self._work_until_stopped)

    def join(self) -> None:
        self._thread.shutdown()

    @property
    def error(self) -> BaseException | None:
        return self._run.exception()

    def _work_until_stopped(self) -> None:
        with self.connection:
            while not self.stopped.is_set():
                self.work(self.connection, self.turns)
                self.turns += 1


ROWS = 200_000


def write_singly(connection, turn: int) -> None:
    for resource, moment in (("full", "2020-03-20 00:00:00+00"), ("now", "now"), ("late", "2031-05-05 00:00:00+00")):
        connection.execute(INSERT, [f"{resource} {turn}", moment])


def write_by_copy(connection, turn: int) -> None:
    columns = "organization_id, action, resource_type, resource_id, created_at"
    with (
        connection.transaction(),
        connection.cursor() as cursor,
        cursor.copy(f"COPY audit_logs ({columns}) FROM STDIN") as copy,
    ):
        for number in range(50):
            copy.write_row(["o", "a", "new", f"copied {turn}:{number}", "2020-04-02 00:00:00+00"])


def counted(connection) -> int:
    return connection.execute("SELECT count(*) FROM audit_logs WHERE resource_type = 'old'").fetchone()[0]


def read_committed(connection, turn: int) -> None:
    assert counted(connection) == ROWS


def read_repeatably(connection, turn: int) -> None:
    """The snapshot is older than what happens until the table is asked."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM users")
        time.sleep(0.1 * (turn % 4))
        assert counted(connection) == ROWS
        everything = connection.execute("SELECT count(*), count(DISTINCT resource_id) FROM audit_logs").fetchone()
        assert everything[0] == everything[1]
        assert connection.execute("SELECT count(*) FROM audit_logs").fetchone()[0] == everything[0]


@pytest.mark.once
def test_200_000_rows_leave_default_while_others_write_read_and_erase(
    server, migrated_database, owner, connected_to, manage
):
    fill(owner, ROWS, apart="30 seconds")
    works = [write_singly, write_by_copy, read_committed, read_repeatably]
    clients = [Client(server, migrated_database, work) for work in works]
    for client in clients:
        client.start()
    try:
        process = Run("auditpartitions", env={**os.environ, "DATABASE_URL": database_url(server, migrated_database)})
        while not owner.execute("SELECT to_regclass('audit_move')").fetchone()[0]:
            assert process.poll() is None
        with connected_to(migrated_database):
            erased = names.erase_names("default", user_id=ALICE)
        out, err = process.communicate(timeout=300)
    finally:
        for client in clients:
            client.stopped.set()
        for client in clients:
            client.join()
    assert (process.returncode, err) == (0, "")
    assert [client.error for client in clients] == [None] * len(clients)
    assert all(client.turns for client in clients)
    assert "audit_logs_2020_01: made, 48959 rows moved from DEFAULT\n" in out
    assert counted(owner) == ROWS
    assert erased == ROWS // 100
    labels = "SELECT count(*), count(actor_label) FROM audit_logs WHERE user_id = %s"
    assert owner.execute(labels, [ALICE]).fetchone() == (ROWS // 100, 0)
    assert owner.execute(labels, [BOB]).fetchone() == (ROWS - ROWS // 100,) * 2
    written = owner.execute("SELECT count(*), count(DISTINCT resource_id) FROM audit_logs WHERE resource_type = 'new'")
    assert written.fetchone() == (clients[0].turns * 3 + clients[1].turns * 50,) * 2
    assert not is_left(owner)
    # Those of the late month, if it was not made yet when its last row came.
    assert set(by_partition(owner)) - {"audit_logs_default", "audit_logs_2031_05"} >= {
        "audit_logs_2020_01",
        "audit_logs_2020_04",
    }


def test_the_result_is_as_if_the_month_had_been_made_with_few_rows(
    server, owner, migrated_database, template, worker_id, manage, schema_dump, connected_to
):
    owner.execute("INSERT INTO audit_logs (organization_id, action, resource_type, created_at) "
                  "VALUES ('o', 'a', 'r', '2020-01-15 00:00:00+00')")  # fmt: skip
    assert manage("auditpartitions", database=migrated_database).returncode == 0
    few = schema_dump(migrated_database)
    other = f"{migrated_database}_full"
    with server.connect() as admin:
        admin.execute(f"CREATE DATABASE {other} OWNER keyhub TEMPLATE {template}")
    try:
        with server.connect(other, "keyhub") as client:
            fill(client, 1_000)
            for moment in ("infinity", "-infinity"):
                client.execute(INSERT, ["never", moment])
            result = manage("auditpartitions", database=other)
            assert result.stdout == "audit_logs_2020_01: made, 1000 rows moved from DEFAULT\n"
            assert by_partition(client) == {"audit_logs_2020_01": 1000, "audit_logs_default": 2}
        assert sorted(schema_dump(other).split("\n\n")) == sorted(few.split("\n\n"))
        with connected_to(other):
            found = [finding.id for finding in dbhealth.run("default").findings]
        assert [name for name in found if name.startswith("keyhub.H01")] == []
        assert set(found) >= {"audit.H004"}
    finally:
        with server.connect() as admin:
            admin.execute(f"DROP DATABASE {other} WITH (FORCE)")


def test_no_row_is_read_while_audit_logs_is_locked(full, connected_to, migrated_database, monkeypatch):
    notices: list[str] = []
    changing_places = default_partition._changing_places

    def forget_what_was_told_before(cursor, months):
        notices.clear()
        return changing_places(cursor, months)

    monkeypatch.setattr(default_partition, "_changing_places", forget_what_was_told_before)
    with connected_to(migrated_database):
        connection.ensure_connection()
        connection.connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        connection.cursor().execute("SET client_min_messages = debug1")
        auditpartitions.make_months("default")
    assert [notice for notice in notices if "existing constraints" in notice] == [
        f'partition constraint for table "{table}" is implied by existing constraints'
        for table in ("audit_logs_2020_01", "audit_logs_2020_02", "audit_logs_default")
    ]


def test_more_months_than_one_turn_takes(owner, move):
    fill(owner, 3_000, apart="3 hours")
    before = digest(owner)
    result = move()
    assert len(result.made) == 13
    assert sum(result.moved.values()) == 3_000
    assert digest(owner) == before
    assert "audit_logs_default" not in by_partition(owner)


# What comes meanwhile


def test_a_month_that_comes_at_the_last_moment(owner, full, move):
    result = move(once(lambda: owner.execute(INSERT, ["late", "2015-07-01 00:00:00+00"])))
    assert [str(month) for month in result.made] == ["2020-01", "2020-02", "2015-07"]
    assert by_partition(owner)["audit_logs_2015_07"] == 1
    assert "audit_logs_default" not in by_partition(owner)


def test_a_writer_who_may_do_nothing_but_insert(owner, server, full, move):
    def write() -> None:
        with server.connect(owner.info.dbname, "keyhub_inserter") as inserter:
            inserter.execute("SET search_path = pg_temp")
            inserter.execute(INSERT.replace("audit_logs", "public.audit_logs"), ["new", "2020-02-20 00:00:00+00"])

    with server.connect() as admin:
        admin.execute("DROP ROLE IF EXISTS keyhub_inserter")
        admin.execute("CREATE ROLE keyhub_inserter LOGIN")
    try:
        owner.execute("GRANT INSERT ON audit_logs TO keyhub_inserter")
        move(once(write))
    finally:
        owner.execute("REVOKE ALL ON audit_logs FROM keyhub_inserter")
        with server.connect() as admin:
            admin.execute("DROP ROLE keyhub_inserter")
    assert owner.execute("SELECT tableoid::regclass::text FROM audit_logs WHERE resource_type = 'new'").fetchall() == [
        ("audit_logs_2020_02",)
    ]


@pytest.mark.parametrize("row", ["1", "1999"])  # one that is copied already, and one that is not
def test_a_name_that_is_erased_meanwhile(owner, full, move, row):
    change = f"UPDATE audit_logs SET actor_label = NULL WHERE resource_id = '{row}'"
    move(once(lambda: owner.execute(change)))
    found = owner.execute("SELECT resource_id FROM audit_logs WHERE actor_label IS NULL").fetchall()
    assert found == [(row,)]
    assert digest(owner)[0] == full[0]


def test_names_are_erased_in_another_order_than_rows_are_copied(server, owner, full, connected_to, migrated_database):
    def copy() -> None:
        try:
            default_partition._copy_a_batch(connection, lambda what, rows: None)
        finally:
            connection.close()

    erase = "UPDATE audit_logs SET actor_label = NULL WHERE resource_id = %s"
    with connected_to(migrated_database), ThreadPoolExecutor(1) as thread:
        default_partition._prepare(connection)
        with owner.transaction():
            owner.execute(erase, ["50"])
            batch = thread.submit(copy)
            with server.connect(migrated_database) as admin:
                while not admin.execute("SELECT FROM pg_locks WHERE NOT granted").rowcount:
                    assert not batch.done()
            owner.execute(erase, ["1"])
        batch.result()
    assert owner.execute("SELECT count(*) FROM audit_move WHERE actor_label IS NULL").fetchone() == (2,)


def test_columns_keep_what_they_hold_whatever_their_default_is(owner, move):
    fill(owner, 500)
    before = digest(owner)
    move()
    assert digest(owner) == before
    assert owner.execute("SELECT count(DISTINCT transaction_id) FROM audit_logs").fetchone() == (1,)


# In its way


def test_a_transaction_that_would_not_see_the_copies_is_named_and_waited_for(
    server, owner, full, move, migrated_database, monkeypatch
):
    monkeypatch.setattr(default_partition, "WAIT_FOR_SNAPSHOTS_S", 0.5)
    with server.connect(migrated_database, "keyhub") as reader:
        reader.execute("SET application_name = 'reporting'")
        with reader.transaction():
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT count(*) FROM users")
            with pytest.raises(short_locks.PartitionLockError) as gave_up:
                move()
            assert str(gave_up.value) == (
                "the rows of audit_logs_default are copied, but transactions that began before have been open for 0.5 "
                f"seconds and more, and would not see them: pid {reader.info.backend_pid} (reporting, user keyhub). "
                "End them and run this again: it goes on from there."
            )
            assert reader.execute(DIGEST).fetchone() == full
        assert digest(owner) == full
    copied: list[int] = []
    move(lambda what, rows: copied.append(rows))
    assert sum(copied) == 0
    assert digest(owner) == full
    assert not is_left(owner)


def test_an_idle_transaction_without_a_snapshot_is_not_waited_for(server, owner, full, move, migrated_database):
    with server.connect(migrated_database, "keyhub") as idle, idle.transaction():
        idle.execute("SELECT count(*) FROM users")
        move()
        assert idle.execute(DIGEST).fetchone() == full


def test_a_report_on_audit_logs_makes_it_give_up_cleanly(
    server, owner, full, move, migrated_database, monkeypatch, connected_to
):
    monkeypatch.setattr(short_locks, "TRIES", 2)
    with server.connect(migrated_database, "keyhub") as report, report.transaction():
        report.execute(DIGEST)
        with connected_to(migrated_database), pytest.raises(CommandError) as gave_up:
            call_command("auditpartitions", stdout=StringIO())
        assert gave_up.value.returncode == 4
        assert str(gave_up.value) == (
            "the copied rows of audit_logs_default could not be put into their place in 2 tries, because other "
            "sessions hold locks on audit_logs (canceling statement due to lock timeout). End the long transactions "
            "and run it again."
        )
        assert report.execute(DIGEST).fetchone() == full
    move()
    assert digest(owner) == full
    assert not is_left(owner)


@pytest.mark.parametrize("what", ["the view reports", "publication of table audit_logs_default in publication p"])
def test_what_hangs_on_default_is_named_before_anything_is_done(server, owner, full, move, what, migrated_database):
    if "view" in what:
        owner.execute("CREATE VIEW reports AS SELECT * FROM audit_logs_default")
    else:
        with server.connect(migrated_database) as superuser:
            superuser.execute("CREATE PUBLICATION p FOR TABLE audit_logs_default")
    with pytest.raises(PartitionError) as refused:
        move()
    assert str(refused.value) == (
        f"audit_logs_default is to be made anew, but {what} hangs on it. "
        "Drop that, run this again, and make it again afterwards."
    )
    assert not is_left(owner)


def test_before_the_table_was_append_only(manage, migrated_database, owner):
    assert manage("migrate", "audit", "0001", "-v0", database=migrated_database).returncode == 0
    owner.execute(INSERT.replace("%s, %s", "n::text, '2020-02-10'") .replace("VALUES (", "SELECT ")[:-1]
                  + " FROM generate_series(1, 300) AS n")  # fmt: skip
    result = manage("auditpartitions", database=migrated_database)
    assert (result.returncode, result.stderr) == (
        1,
        "CommandError: audit_logs_default holds more than 200 rows, which are moved while others write only where the "
        "table is append-only. Run manage.py migrate first.\n",
    )


# Interrupted, and what was changed until the next run


@pytest.mark.once
def test_killed_at_each_statement_it_goes_on(server, migrated_database, owner, full):
    environment = {**os.environ, "DATABASE_URL": database_url(server, migrated_database)}
    command = [sys.executable, "-W", "error", "-m", "tests.audit.default_killer"]
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    seen = [line for line in result.stdout.splitlines() if re.fullmatch(r"\d+ -?\d+", line)]
    assert len(seen) > 30
    assert set(seen) == {f"{full[0]} {full[1]}"}
    assert digest(owner) == full
    assert by_partition(owner) == {"audit_logs_2020_01": 1223, "audit_logs_2020_02": 777}
    assert not is_left(owner)


def test_writers_are_mirrored_until_the_next_run(owner, full, move):
    with pytest.raises(KeyboardInterrupt):
        move(once(interrupt))
    owner.execute(INSERT, ["new", "2020-02-20 00:00:00+00"])
    copied: list[int] = []
    result = move(lambda what, rows: copied.append(rows))
    assert sum(copied) == 1_899  # the first batch was of 101
    assert sum(result.moved.values()) == 2_001
    assert digest(owner)[0] == 2_001


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE audit_logs ADD COLUMN weight int DEFAULT 7",
        "CREATE INDEX audit_logs_by_agent ON audit_logs (user_agent)",
        "DROP TRIGGER mirror_audit_row ON audit_logs_default",
        "ALTER TABLE audit_logs_default DISABLE TRIGGER mirror_audit_row",
        "CREATE TABLE mine PARTITION OF audit_logs FOR VALUES FROM ('2010-01-01 00:00+00') TO ('2010-02-01 00:00+00')",
    ],
)
def test_a_copy_that_does_not_fit_any_more_is_made_anew(owner, full, move, change):
    with pytest.raises(KeyboardInterrupt):
        move(once(interrupt))
    owner.execute(change)
    owner.execute(INSERT, ["new", "2020-02-20 00:00:00+00"])
    before = digest(owner)
    move()
    assert digest(owner) == before
    assert by_partition(owner) == {"audit_logs_2020_01": 1223, "audit_logs_2020_02": 778}
    assert not is_left(owner)


def test_a_change_while_it_is_at_work_is_noticed(owner, full, move):
    def change() -> None:
        owner.execute("ALTER TABLE audit_logs ADD COLUMN weight int DEFAULT 7")

    with pytest.raises(PartitionError) as refused:
        move(once(change))
    assert str(refused.value) == (
        "audit_logs was changed while the rows of its DEFAULT partition were copied; none was moved. Run this again."
    )
    before = digest(owner)
    move()
    assert digest(owner) == before
    assert not is_left(owner)


def test_a_copy_that_is_not_equal_is_not_taken(owner, full, move):
    def tamper() -> None:
        owner.execute("ALTER TABLE audit_move_2020_01 DISABLE TRIGGER ALL")
        owner.execute("DELETE FROM audit_move WHERE resource_id = '1'")

    with pytest.raises(PartitionError) as refused:
        move(once(tamper))
    assert str(refused.value) == (
        "the copy of audit_logs_default is not equal to it, and was dropped: somebody has written with the triggers "
        "switched off. No row was moved. Run this again."
    )
    assert digest(owner) == full
    move()
    assert digest(owner) == full


def test_rows_are_not_taken_away_meanwhile(owner, full, move):
    """The table's own triggers refuse it; so does the mirror, where the owner has switched these off."""
    refusals: list[str] = []

    def take_away() -> None:
        owner.execute("ALTER TABLE audit_logs_default DISABLE TRIGGER refuse_audit_logs_change")
        owner.execute("ALTER TABLE audit_logs_default DISABLE TRIGGER refuse_audit_logs_truncate")
        for statement in ("DELETE FROM audit_logs_default", "TRUNCATE audit_logs_default"):
            with pytest.raises(Exception, match="auditpartitions moves its rows") as refused:
                owner.execute(statement)
            refusals.append(refused.value.diag.message_primary)

    move(once(take_away))
    assert refusals == [
        f"{what} on audit_logs_default is refused, because auditpartitions moves its rows. Wait for its end."
        for what in ("DELETE", "TRUNCATE")
    ]
    assert digest(owner) == full


def test_dbhealth_tells_of_the_rows_and_not_of_the_work(owner, full, move, connected_to, migrated_database):
    with pytest.raises(KeyboardInterrupt):
        move(once(interrupt))
    with connected_to(migrated_database):
        found = {finding.id for finding in dbhealth.run("default").findings}
    assert {name for name in found if name.startswith(("keyhub.H01", "keyhub.H00", "audit."))} == {"audit.H002"}
