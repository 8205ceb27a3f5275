"""What endangers the database as a whole: each check is made to fire, by the real thing or by a lower limit."""

import re
import threading
import time
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connection

from keyhub import dbhealth
from keyhub.dbhealth import examination
from keyhub.dbhealth import server as checks
from keyhub.dbhealth.examination import Selection

pytestmark = pytest.mark.database


@pytest.fixture
def limit(monkeypatch):
    def set_limits(**limits) -> None:
        for name, value in limits.items():
            monkeypatch.setitem(checks.LIMITS, name, value)

    return set_limits


@pytest.fixture
def mends(examine):
    def mends(**selection) -> list[str]:
        return [finding.mend for finding in examine(**selection).findings]

    return mends


def pid(connection: psycopg.Connection) -> int:
    return connection.info.backend_pid


def test_a_sequence_near_its_end(client, found):
    client.execute("SELECT setval('operators_id_seq', 9000000000000000000)")
    client.execute("ALTER SEQUENCE auth_group_id_seq RESTART 1600000000")
    assert found(only={"keyhub.H020"}) == [
        (
            "critical",
            "keyhub.H020 operators_id_seq",
            "98 % of the sequence are used up; at its end every INSERT into operators.id fails",
        ),
        (
            "warning",
            "keyhub.H020 auth_group_id_seq",
            "75 % of the sequence are used up; at its end every INSERT into auth_group.id fails",
        ),
    ]


def test_transaction_ids_near_their_end(found, migrated_database, monkeypatch):
    monkeypatch.setattr(checks, "IDS_WARNING", 1)
    old = [row for row in found(only={"keyhub.H021"}) if row[1] == f"keyhub.H021 {migrated_database}"]
    assert {row[0] for row in old} == {"warning"}
    assert any(row[2].startswith("the oldest transaction id is ") for row in old)
    monkeypatch.setattr(checks, "IDS_CRITICAL", 1)
    assert found(only={"keyhub.H021"})[0][0] == "critical"


def test_a_long_transaction(client, server, migrated_database, found, mends, limit):
    limit(long_transaction_s=0.2)
    with server.connect(migrated_database, user="keyhub") as long:
        long.execute("SET application_name = 'report'")
        long.execute("BEGIN")
        long.execute("SELECT")
        time.sleep(0.3)
        name = f"pid {pid(long)} (keyhub, report)"
        assert found(only={"keyhub.H022"}) == [
            (
                "warning",
                f"keyhub.H022 {name}",
                "its transaction has been open for 0 s (idle in transaction): vacuum and migrations wait for it",
            )
        ]
        client.execute(mends(only={"keyhub.H022"})[0])
        with pytest.raises(psycopg.OperationalError):
            long.execute("SELECT")
    assert found(only={"keyhub.H022"}) == []


def test_a_session_idle_in_a_transaction(server, migrated_database, found, limit):
    limit(idle_in_transaction_s=0.2, long_transaction_s=0.2)
    with server.connect(migrated_database, user="keyhub") as idle:
        idle.execute("BEGIN")
        idle.execute("SELECT")
        time.sleep(0.3)
        # One session, one finding: the nearer cause.
        assert found(only={"keyhub.H022", "keyhub.H023"}) == [
            (
                "warning",
                f"keyhub.H023 pid {pid(idle)} (keyhub, unnamed)",
                "idle in a transaction for 0 s: it keeps its locks and does nothing",
            )
        ]


@contextmanager
def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_blocked_session(client, server, migrated_database, found, mends, limit):
    limit(blocked_s=0.2)
    with (
        server.connect(migrated_database, user="keyhub") as holder,
        server.connect(migrated_database, user="keyhub") as waiter,
    ):
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE users")
        with in_thread(lambda: waiter.execute("SELECT * FROM users")):
            deadline = time.monotonic() + 30
            try:
                while not (seen := found(only={"keyhub.H024"})):
                    assert time.monotonic() < deadline
                mend = mends(only={"keyhub.H024"})
            finally:
                holder.execute("ROLLBACK")
            ((severity, what, problem),) = seen
            assert (severity, what) == ("warning", f"keyhub.H024 pid {pid(waiter)} (keyhub, unnamed)")
            assert problem.endswith(f"held by pid {pid(holder)} (keyhub, unnamed)")
            assert mend == [f"SELECT pg_terminate_backend({pid(holder)});"]


def test_drift_is_not_measured_behind_a_lock(server, migrated_database, found, monkeypatch):
    monkeypatch.setattr(examination, "LOCK_TIMEOUT_MS", 100)
    with server.connect(migrated_database, user="keyhub") as holder:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE groups")
        assert found() == [
            ("critical", "keyhub.H019 drift", "not looked at: another session holds a table exclusively")
        ]
    assert found() == []


def test_a_slot_that_holds_wal_back(superuser, found, mends, limit):
    limit(slot_bytes=-1)
    name = f"slot_{superuser.info.backend_pid}"
    superuser.execute("SELECT pg_create_physical_replication_slot(%s, true)", [name])
    try:
        mine = [row for row in found(only={"keyhub.H026"}) if row[1] == f"keyhub.H026 {name}"]
        assert [row[0] for row in mine] == ["critical"]
        assert re.fullmatch(r"the slot holds \d+ MB of WAL back, and nobody reads it", mine[0][2])
        assert any(f"SELECT pg_drop_replication_slot('{name}');" in mend for mend in mends(only={"keyhub.H026"}))
    finally:
        superuser.execute("SELECT pg_drop_replication_slot(%s)", [name])


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("session_replication_role = replica", "session_replication_role = replica"),
        ("synchronous_commit = off", "synchronous_commit = off"),
    ],
)
def test_a_setting_of_the_database_that_endangers_rows(superuser, migrated_database, found, mends, setting, problem):
    superuser.execute(f"ALTER DATABASE {migrated_database} SET {setting}")
    mine = [row for row in found(only={"keyhub.H028"}) if f"DATABASE {migrated_database}" in row[2]]
    assert [(row[0], row[2]) for row in mine] == [
        ("critical", f"every session of DATABASE {migrated_database} begins with {problem}")
    ]
    for mend in mends(only={"keyhub.H028"}):
        superuser.execute(mend.split("\n")[0])
    assert found(only={"keyhub.H028"}) == []


def test_a_setting_of_the_server_that_endangers_rows(connected_to, migrated_database):
    with connected_to(migrated_database):
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
        (finding,) = dbhealth.run("default", Selection(only=frozenset({"keyhub.H028"}))).findings
    assert (finding.severity, finding.object, finding.problem, finding.mend) == (
        "warning",
        "synchronous_commit",
        "synchronous_commit is off: a crash loses the last transactions that were said to be committed",
        "ALTER SYSTEM SET synchronous_commit = on;\nSELECT pg_reload_conf();",
    )


def test_a_table_that_nobody_vacuums(client, found, mends, limit):
    limit(dead_rows=50, vacuum_h=0)
    client.execute("ALTER TABLE users SET (autovacuum_enabled = off)")
    client.execute("INSERT INTO users (email) SELECT n || '@example.com' FROM generate_series(1, 100) AS n")
    client.execute("UPDATE users SET name = 'x'")
    client.execute("SELECT pg_stat_force_next_flush()")
    client.execute("SELECT")
    assert found(only={"keyhub.H029"}) == [
        ("warning", "keyhub.H029 users", "100 dead rows beside 100 live ones, last vacuumed never")
    ]
    assert mends(only={"keyhub.H029"}) == ["VACUUM (ANALYZE) users;"]


def test_an_index_twice(client, found, mends):
    client.execute("CREATE INDEX again ON sessions (user_id)")
    client.execute("CREATE INDEX again_unique ON organizations (slug)")
    client.execute("CREATE INDEX other_order ON sessions (user_id DESC)")
    assert found(only={"keyhub.H030"}) == [
        ("warning", "keyhub.H030 again", "the index is the same as idx_sessions_user_id: every write keeps both"),
        (
            "warning",
            "keyhub.H030 again_unique",
            "the index is the same as organizations_slug_key: every write keeps both",
        ),
    ]
    for mend in mends(only={"keyhub.H030"}):
        client.execute(mend)
    assert found(only={"keyhub.H030"}) == []


def test_an_index_that_no_query_uses(found, limit):
    limit(unused_days=0, unused_bytes=-1)
    unused = found(only={"keyhub.H031"})
    assert ("notice", "keyhub.H031 idx_tenants_slug") in [row[:2] for row in unused]


def test_a_foreign_key_without_an_index(client, found, mends):
    client.execute("DROP INDEX idx_sessions_active_membership")
    assert found(only={"keyhub.H032"}) == [
        (
            "warning",
            "keyhub.H032 sessions.sessions_active_membership_id_user_id_fkey",
            "no index begins with active_membership_id, user_id: each delete of a row that is referred to scans "
            "sessions",
        )
    ]
    client.execute(mends(only={"keyhub.H032"})[0])
    assert found(only={"keyhub.H032"}) == []


def test_a_table_that_is_mostly_air(client, found, limit):
    limit(bloat_bytes=100_000)
    client.execute("ALTER TABLE users SET (autovacuum_enabled = off)")
    client.execute("INSERT INTO users (email) SELECT n || '@example.com' FROM generate_series(1, 20000) AS n")
    client.execute("DELETE FROM users WHERE email !~ '^1?[0-9]{1,3}@'")
    client.execute("ANALYZE users")
    ((severity, what, problem),) = found(only={"keyhub.H033"})
    assert (severity, what) == ("notice", "keyhub.H033 users")
    assert problem.startswith("takes 2 MB, of which its rows need about 0 MB")


def test_an_old_version_of_a_collation(superuser, migrated_database, found):
    superuser.execute(
        "UPDATE pg_database SET datcollversion = '0.1' WHERE datname = %s "
        "AND pg_database_collation_actual_version(oid) IS NOT NULL",
        [migrated_database],
    )
    actual = superuser.execute(
        "SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = %s", [migrated_database]
    ).fetchone()[0]
    expected = []
    if actual is not None:  # the C locale of a libc has no version
        expected = [
            (
                "critical",
                f"keyhub.H035 {migrated_database}",
                f"its indexes were built by version 0.1 of the collation, the system has {actual}: "
                "they may not find rows, nor keep duplicates out",
            )
        ]
    assert found(only={"keyhub.H035"}) == expected


def test_an_old_version_of_an_extension(superuser, found, mends):
    superuser.execute("CREATE EXTENSION pg_trgm VERSION '1.3'")
    ((severity, what, problem),) = found(only={"keyhub.H034"})
    assert (severity, what) == ("warning", "keyhub.H034 pg_trgm")
    assert problem.startswith("the extension is at version 1.3, and the server brings ")
    superuser.execute(mends(only={"keyhub.H034"})[0])
    assert found(only={"keyhub.H034"}) == []
