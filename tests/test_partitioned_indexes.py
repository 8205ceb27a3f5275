"""Indexes of a partitioned table, built while it is in use, and taken up again wherever the build ended."""

import os
import re
import threading
import time

import psycopg
import pytest
from django.contrib.postgres.indexes import BTreeIndex
from django.db import NotSupportedError, connection, migrations, models
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import MigrationWriter
from django.db.models import F
from django.db.models.functions import Lower

from audit.auditpartitions import make_months
from audit.months import Month
from keyhub.migration_operations import AddPartitionedIndexConcurrently, RemovePartitionedIndexConcurrently
from keyhub.sql_text import statements
from tests.conftest import database_url
from tests.processes import Run

INDEX = "idx_audit_logs_resource_created"
KEYS = "resource_type_resource_id_created_at"
INSERT = "INSERT INTO audit_logs (organization_id, action, resource_type, created_at) VALUES ('o', 'a', 'r', %s)"
PIECES = """
    SELECT indrelid::regclass::text, indexrelid::regclass::text, indisvalid, inhparent IS NOT NULL
    FROM pg_index LEFT JOIN pg_inherits ON inhrelid = indexrelid
    WHERE indexrelid::regclass::text LIKE '%%' || %s || '_idx' ORDER BY 1
"""


@pytest.fixture
def migrate(server, migrated_database):
    """Start `migrate audit …` as a process of its own."""

    def start(*arguments: str) -> Run:
        environment = {**os.environ, "DATABASE_URL": database_url(server, migrated_database)}
        return Run("migrate", "audit", *arguments, "-v0", env=environment)

    def run(*arguments: str) -> tuple[int, str]:
        process = start(*arguments)
        _, errors = process.communicate()
        return process.returncode, errors

    run.start = start
    assert run("0006") == (0, "")
    return run


@pytest.fixture
def client(server, migrated_database):
    with server.connect(migrated_database, "keyhub") as client:
        client.execute("SET TimeZone = 'UTC'")
        yield client


def pieces(client, keys: str = KEYS) -> list[tuple]:
    """Of each partition its index: the table, the index, whether it is valid, whether it is attached."""
    return client.execute(PIECES, [keys]).fetchall()


def is_valid(client, index: str = INDEX) -> bool | None:
    row = client.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [index]).fetchone()
    return row and row[0]


def partitions(client) -> list[str]:
    return [
        name
        for (name,) in client.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass ORDER BY 1"
        )
    ]


def whole(client) -> list[tuple]:
    return [(partition, f"{partition}_{KEYS}_idx", True, True) for partition in partitions(client)]


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def builds(client, partition: str) -> bool:
    return bool(
        client.execute(
            "SELECT FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() "
            "AND datname = current_database() "
            "AND query LIKE 'CREATE INDEX CONCURRENTLY%%' || %s || '%%'",
            [f'ON "{partition}"'],
        ).rowcount
    )


def interrupt(migrate, client, server, database: str, partition: str) -> None:
    """Kill (SIGKILL) a migrate that builds the index of this partition."""
    with psycopg.connect(host=str(server.socket_directory), dbname=database, user="keyhub") as holder:
        holder.execute(f"INSERT INTO {partition} SELECT * FROM {partition} LIMIT 0")
        process = migrate.start("0008")
        wait_until(lambda: builds(client, partition))
        process.kill()
        process.communicate()
        wait_until(lambda: not builds(client, partition))
        holder.rollback()


def test_every_partition_gets_its_own_and_the_way_back_takes_them(migrate, client):
    client.execute(INSERT, ["now"])
    client.execute(INSERT, ["2020-02-10 00:00:00+00"])
    assert pieces(client) == []
    assert migrate("0008") == (0, "")
    assert (is_valid(client), pieces(client)) == (True, whole(client))
    assert migrate("0006") == (0, "")
    assert (is_valid(client), pieces(client)) == (None, [])


def test_dropping_one_is_undone_partition_by_partition(migrate, client):
    assert migrate("0009") == (0, "")
    assert (is_valid(client, "idx_audit_logs_resource"), pieces(client, "resource_type_resource_id")) == (None, [])
    assert migrate("0008") == (0, "")
    assert is_valid(client, "idx_audit_logs_resource")
    assert [valid for *_, valid, attached in pieces(client, "resource_type_resource_id") if attached] == [True] * 5


def test_writers_go_on_while_it_waits_for_an_old_transaction(migrate, client, server, migrated_database):
    """A transaction that has written into a month keeps the build of its index waiting, and nobody else."""
    month = partitions(client)[1]
    with psycopg.connect(host=str(server.socket_directory), dbname=migrated_database, user="keyhub") as holder:
        holder.execute(f"INSERT INTO {month} SELECT * FROM {month} LIMIT 0")
        process = migrate.start("0008")
        wait_until(lambda: builds(client, month))
        longest_s = 0.0
        for partition in partitions(client) * 4:
            began = time.monotonic()
            client.execute(f"INSERT INTO {partition} SELECT * FROM {partition} LIMIT 0")
            longest_s = max(longest_s, time.monotonic() - began)
        assert builds(client, month)
        holder.commit()
    assert (process.communicate()[1], process.returncode) == ("", 0)
    assert longest_s < 0.5
    assert pieces(client) == whole(client)


def test_many_writers_and_new_months_meanwhile_lose_nothing(migrate, client, server, migrated_database, connected_to):
    ended, written = threading.Event(), []

    def write() -> None:
        with server.connect(migrated_database, "keyhub") as writer:
            while not ended.is_set():
                writer.execute(INSERT, ["now"])
                written.append(1)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        process = migrate.start("0009")
        with connected_to(migrated_database):
            for ahead in range(4, 12):
                make_months("default", ahead)
        errors = process.communicate()[1]
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert process.returncode == 0, errors
    assert (is_valid(client), pieces(client)) == (True, whole(client))
    assert len(partitions(client)) == 13
    assert client.execute("SELECT count(*) FROM audit_logs").fetchone() == (len(written),)


def test_killed_while_it_builds_a_rerun_builds_that_one_anew(migrate, client, server, migrated_database, connected_to):
    names = partitions(client)
    interrupt(migrate, client, server, migrated_database, names[2])
    assert is_valid(client) is False
    assert [piece[2:] for piece in pieces(client)] == [(True, True), (True, True), (False, False)]
    built = client.execute("SELECT oid FROM pg_class WHERE relname = %s", [pieces(client)[0][1]]).fetchone()
    with connected_to(migrated_database):
        later = make_months("default", 4).made
    assert [month.partition for month in later] == [Month.of_bounds(later[0].bounds).partition]
    assert migrate("0008") == (
        0,
        f"The index {names[2]}_{KEYS}_idx is invalid, left by an interrupted build: dropping it and building it "
        "anew.\n",
    )
    assert (is_valid(client), pieces(client)) == (True, whole(client))
    assert len(pieces(client)) == 6
    assert client.execute("SELECT oid FROM pg_class WHERE relname = %s", [pieces(client)[0][1]]).fetchone() == built


def test_dbhealth_tells_what_an_interrupted_build_lacks(migrate, manage, client, server, migrated_database):
    """Once it is recorded, say by --fake, the index that is not whole is a finding, whose mend makes it whole."""
    interrupt(migrate, client, server, migrated_database, partitions(client)[2])
    assert migrate("0008", "--fake") == (0, "")
    result = manage("dbhealth", database=migrated_database)
    assert result.returncode == 1
    told = (
        f"CRITICAL keyhub.H003 audit_logs.{INDEX}: the index is invalid: queries do not use it, and a unique one does "
        "not keep duplicates out\n"
    )
    mend = result.stdout.partition(told)[2].rpartition("default:")[0]
    for statement in statements(mend):
        client.execute(statement)
    assert (is_valid(client), pieces(client)) == (True, whole(client))


EXISTS = (
    "CommandError: an index {} exists already, and this migration was to build it. Compare the two; drop the index and "
    "run this again, or record the migration with --fake.\n"
)


@pytest.mark.once
@pytest.mark.parametrize("parts", ["", "ONLY "], ids=["whole", "without those of the partitions"])
def test_an_index_of_somebody_elses_is_not_trusted(migrate, client, parts):
    client.execute(f"CREATE INDEX {INDEX} ON {parts}audit_logs (action)")
    for _ in range(2):
        assert migrate("0008") == (1, EXISTS.format(INDEX))
    client.execute(f"DROP INDEX {INDEX}")
    assert migrate("0008") == (0, "")


@pytest.mark.once
def test_nor_is_that_of_a_partition(migrate, client):
    name = f"audit_logs_default_{KEYS}_idx"
    client.execute(f"CREATE INDEX {name} ON audit_logs_default (action)")
    assert migrate("0008") == (1, EXISTS.format(name))
    client.execute(f"DROP INDEX {name}")
    # What the run has built until then is nobody's any more.
    assert migrate("0008") == (1, EXISTS.format(INDEX))
    client.execute(f"DROP INDEX {INDEX}")
    assert migrate("0008") == (0, "")
    assert pieces(client) == whole(client)


@pytest.mark.once
def test_what_it_tells_before_it_runs(migrate, manage, migrated_database):
    plan = manage("migrate", "audit", "0009", "--plan", database=migrated_database).stdout
    assert re.search(
        rf" Python: Build {INDEX} partition by partition\n +-- SHARE on audit_logs \(.*: writers wait\n", plan
    )
    assert " Python: Drop idx_audit_logs_resource with those of the partitions\n" in plan
    asked = manage("sqlmigrate", "audit", "0008", database=migrated_database).stdout
    assert asked.splitlines()[-2:] == [
        f'CREATE INDEX "{INDEX}" ON ONLY "audit_logs" USING btree ("resource_type", "resource_id", "created_at" DESC);',
        f'-- and for each partition CREATE INDEX CONCURRENTLY, and ALTER INDEX "{INDEX}" ATTACH PARTITION',
    ]


def state() -> ProjectState:
    state = ProjectState()
    fields = [("id", models.UUIDField(primary_key=True)), ("at", models.DateTimeField())]
    migrations.CreateModel("Event", fields, options={"db_table": "events"}).state_forwards("shop", state)
    return state


def test_the_models_know_of_both():
    add = AddPartitionedIndexConcurrently("event", BTreeIndex("id", F("at").desc(), name="idx_events_id"))
    with_index = state()
    add.state_forwards("shop", with_index)
    assert [index.name for index in with_index.models["shop", "event"].options["indexes"]] == ["idx_events_id"]
    remove = RemovePartitionedIndexConcurrently("event", "idx_events_id")
    without = with_index.clone()
    remove.state_forwards("shop", without)
    assert without.models["shop", "event"].options["indexes"] == []
    assert (add.describe(), add.describe_backwards()) == (remove.describe_backwards(), remove.describe())
    for operation in (add, remove):
        name, arguments, keywords = operation.deconstruct()
        assert (name, operation.reversible) == (type(operation).__name__, True)
        again = type(operation)(*arguments, **keywords)
        assert again.deconstruct() == (name, arguments, keywords)
    assert "BTreeIndex" in MigrationWriter.serialize(add.index)[0]


def test_an_index_of_an_expression_is_refused_at_once():
    with pytest.raises(
        ValueError, match=r"^idx is no index of columns alone\. Build it by SQL, partition by partition\.$"
    ):
        AddPartitionedIndexConcurrently("event", BTreeIndex(Lower("label"), name="idx"))


@pytest.mark.once
@pytest.mark.django_db
@pytest.mark.parametrize(
    "operation",
    [
        AddPartitionedIndexConcurrently("event", BTreeIndex(fields=["at"], name="idx_events_at")),
        RemovePartitionedIndexConcurrently("event", "idx_events_at"),
    ],
    ids=["add", "remove"],
)
@pytest.mark.parametrize("direction", ["database_forwards", "database_backwards"])
def test_neither_runs_in_a_transaction(operation, direction):
    with pytest.raises(NotSupportedError, match=r"cannot be executed inside a transaction"):
        getattr(operation, direction)("shop", connection.schema_editor(atomic=False), state(), state())
