"""Closed months take no row any more, and every single change of one is found and named by its month."""

import hashlib
import json
import os
import re
import time

import pytest
from django.core.management import CommandError, call_command
from psycopg import errors

from audit import short_locks
from tests.conftest import database_url
from tests.processes import Run

pytestmark = pytest.mark.database

ALICE = "00000000-0000-0000-0000-00000000000a"
OTHER_SETTINGS = (
    "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German, DMY'; SET IntervalStyle = 'sql_standard'; "
    "SET extra_float_digits = -5; SET bytea_output = 'escape'"
)


@pytest.fixture
def superuser(server, migrated_database):
    with server.connect(migrated_database) as superuser:
        yield superuser


def record(owner, moment: str, rows: int = 3) -> None:
    owner.execute(
        "INSERT INTO audit_logs (organization_id, user_id, actor_label, action, resource_type, resource_id, details, "
        "ip_address, user_agent, created_at) "
        f"SELECT 'ORG', '{ALICE}', 'Alice é', 'user.login', 'session', n::text, "
        """'{"b": 1.50, "a": [null, "\\\\ \\t \\u20ac"]}', '2001:db8::1', E'tab\\there\\\\N\\nline', """
        "%s::timestamptz + n * interval '1 second' FROM generate_series(1, %s) AS n",
        [moment, rows],
    )


@pytest.fixture
def months(manage, migrated_database, owner) -> list[str]:
    """Two months that are over, with rows; the one before them is empty."""
    record(owner, "2020-02-10 00:00:00+00")
    record(owner, "2020-03-10 00:00:00+00")
    record(owner, "now")
    assert manage("auditpartitions", database=migrated_database).returncode == 0
    return ["2020-02", "2020-03"]


@pytest.fixture
def sealed(run, months) -> list[str]:
    assert run("seal") == (0, "2020-02: sealed, 3 rows\n2020-03: sealed, 3 rows\n", "")
    return months


def test_months_that_are_over_are_sealed_once(run, sealed):
    assert run("seal") == (0, "Nothing to do: every month that is over is sealed.\n", "")
    assert run("verify") == (0, "2 sealed months: no faults\n", "")


def test_nothing_is_sealed_yet(run):
    assert run("verify") == (0, "0 sealed months: no faults\n", "")


def test_a_sealed_month_takes_no_row_and_the_others_do(owner, sealed):
    for table in ("audit_logs", "audit_logs_2020_02"):
        with pytest.raises(errors.RestrictViolation) as refusal:
            owner.execute(
                f"INSERT INTO {table} (organization_id, action, resource_type, created_at) "
                "VALUES ('o', 'a', 'r', '2020-02-20 00:00:00+00')"
            )
        assert refusal.value.diag.message_primary == (
            "audit_logs_2020_02 is sealed, and takes no row any more. Record the event with the time of the record."
        )
    record(owner, "now")


def test_a_snapshot_from_before_does_not_overlook_the_seal(server, run, migrated_database, months):
    with server.connect(migrated_database, "keyhub") as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM users")
        assert run("seal")[0] == 0
        with pytest.raises(errors.RestrictViolation):
            record(old, "2020-02-20 00:00:00+00")
        old.execute("ROLLBACK")
    assert run("verify")[0] == 0


def test_whoever_writes_into_the_month_is_waited_for_and_sealed_with_it(server, migrated_database, months, run):
    with server.connect(migrated_database, "keyhub") as writer:
        writer.execute("BEGIN")
        record(writer, "2020-02-20 00:00:00+00", rows=1)
        environment = {**os.environ, "DATABASE_URL": database_url(server, migrated_database)}
        process = Run("auditpartitions", "seal", env=environment)
        deadline = time.monotonic() + 30
        with server.connect(migrated_database) as admin:
            while time.monotonic() < deadline:
                if admin.execute("SELECT FROM pg_locks WHERE NOT granted").rowcount:
                    break
        writer.execute("COMMIT")
    assert process.communicate(timeout=60)[0].splitlines()[0] == "2020-02: sealed, 4 rows"


def test_somebody_who_writes_for_ever_is_named(server, migrated_database, months, connected_to, monkeypatch):
    monkeypatch.setattr(short_locks, "TRIES", 3)
    with server.connect(migrated_database, "keyhub") as writer:
        writer.execute("BEGIN")
        record(writer, "2020-02-20 00:00:00+00", rows=1)
        with connected_to(migrated_database), pytest.raises(CommandError) as gave_up:
            call_command("auditpartitions", "seal")
        writer.execute("ROLLBACK")
    assert gave_up.value.returncode == 4
    assert str(gave_up.value) == (
        "audit_logs_2020_02 could not be closed in 3 tries, because others write into it (canceling statement due to "
        "lock timeout). End the long transactions and run it again."
    )


TAMPERINGS = {
    "a row changed": "UPDATE audit_logs_2020_02 SET action = 'user.logout' WHERE resource_id = '2'",
    "a time moved": "UPDATE audit_logs_2020_02 SET created_at = created_at + interval '1 us' WHERE resource_id = '2'",
    "NULL for empty": "UPDATE audit_logs_2020_02 SET request_id = '' WHERE resource_id = '2'",
    "json": "UPDATE audit_logs_2020_02 SET details = '{\"b\": 1.5}' WHERE resource_id = '2'",
    "an address": "UPDATE audit_logs_2020_02 SET ip_address = '2001:db8::2' WHERE resource_id = '2'",
    "an id": "UPDATE audit_logs_2020_02 SET id = gen_random_uuid() WHERE resource_id = '2'",
    "two rows' ids swapped": (
        "UPDATE audit_logs_2020_02 AS a SET resource_id = b.resource_id FROM audit_logs_2020_02 AS b "
        "WHERE a.resource_id IN ('1', '2') AND b.resource_id IN ('1', '2') AND a.id <> b.id"
    ),
    "one for another": (
        "DELETE FROM audit_logs_2020_02 WHERE resource_id = '2'; "
        "INSERT INTO audit_logs (organization_id, action, resource_type, created_at) "
        "VALUES ('ORG', 'user.login', 'session', '2020-02-10 00:00:02+00')"
    ),
}


def tamper(superuser, statement: str) -> None:
    """As somebody does who may do everything but sign."""
    superuser.execute("SET session_replication_role = replica")
    superuser.execute(statement)


@pytest.mark.parametrize("statement", TAMPERINGS.values(), ids=TAMPERINGS)
def test_a_changed_row_is_found(run, sealed, superuser, statement):
    tamper(superuser, statement)
    assert run("verify") == (1, "2020-02: rows were changed\n2 sealed months: 1 fault\n", "")


def test_a_missing_row_an_added_row_and_a_changed_name(run, sealed, superuser):
    tamper(superuser, "DELETE FROM audit_logs_2020_02 WHERE resource_id = '2'")
    record(superuser, "2020-03-11 00:00:00+00", rows=2)
    assert run("verify") == (
        1,
        "2020-02: 1 row missing: 3 were sealed\n2020-03: 2 rows added: 3 were sealed\n2 sealed months: 2 faults\n",
        "",
    )


def test_a_changed_name_is_found(run, sealed, superuser):
    tamper(superuser, "UPDATE audit_logs_2020_03 SET actor_label = 'Bob' WHERE resource_id = '1'")
    assert run("verify") == (1, "2020-03: names were changed\n2 sealed months: 1 fault\n", "")


@pytest.mark.parametrize(
    ("statement", "problems"),
    [
        (
            "UPDATE audit_seals SET rows = 4 WHERE number = 1",
            [
                "2020-02: its seal was changed, or signed with another SECRET_KEY",
                "2020-02: 1 row missing: 4 were sealed",
                "2020-03: the seal before it was changed",
            ],
        ),
        (
            "DELETE FROM audit_seals WHERE number = 1",
            ["2020-03: the seal before it is missing: it is number 2, and number 1 is due"],
        ),
        (
            "UPDATE audit_seals SET names_digest = repeat('a', 64) WHERE number = 2",
            [
                "2020-03: the seal of its names was changed, or signed with another SECRET_KEY",
                "2020-03: names were changed",
            ],
        ),
        ("DROP TABLE audit_logs_2020_03", ["2020-03: its partition is gone"]),
    ],
)
def test_a_seal_that_was_changed(run, sealed, superuser, statement, problems):
    tamper(superuser, statement)
    code, out, _ = run("verify")
    assert (code, out.splitlines()[:-1]) == (1, problems)


def test_seals_that_were_kept_elsewhere(run, sealed, superuser, tmp_path):
    kept = tmp_path / "seals.json"
    kept.write_text(run("verify", "--format", "json")[1])
    assert run("verify", "--against", str(kept))[0] == 0
    # The last seal and all that it speaks of can go without a trace in the database.
    tamper(superuser, "DELETE FROM audit_seals WHERE number = 2")
    assert run("verify") == (0, "1 sealed month: no faults\n", "")
    assert run("verify", "--against", str(kept)) == (
        1,
        "2020-03: its seal is gone, and was kept elsewhere\n1 sealed month: 1 fault\n",
        "",
    )


def test_a_file_that_holds_no_seals(run, tmp_path):
    for content in ("", "[]", "{}", '{"seals": [1]}', '{"seals": [{}]}'):
        (tmp_path / "kept").write_text(content)
        code, out, err = run("verify", "--against", str(tmp_path / "kept"))
        assert (code, out) == (1, "")
        assert err == (
            f"CommandError: {tmp_path}/kept holds no seals. Give the output of auditpartitions verify --format json.\n"
        )
    assert run("verify", "--against", str(tmp_path / "gone"))[2] == (
        f"CommandError: {tmp_path}/gone cannot be read: No such file or directory.\n"
    )


def test_seals_of_another_key(run, sealed, manage, migrated_database):
    result = manage("auditpartitions", "verify", database=migrated_database, SECRET_KEY="another" * 10)
    assert result.returncode == 1
    assert result.stdout.count("signed with another SECRET_KEY") == 4


def test_the_digest_depends_on_no_setting(months, connected_to, migrated_database):
    from django.db import connection

    from audit import seals

    with connected_to(migrated_database):
        usual = seals.digests_of(connection, "audit_logs_2020_02")
        with connection.cursor() as cursor:
            cursor.execute(OTHER_SETTINGS)
        assert seals.digests_of(connection, "audit_logs_2020_02") == usual


TEXT = (
    '["00000000-0000-0000-0000-000000000001", "2020-02-10T00:00:00.000001", "ORG", null, null, "a", "r", null, null, '
    '{"b": [true, null], "é": 1.50}, "192.0.2.1", "\\t\\\\", null]'
)
NAMES = '["00000000-0000-0000-0000-000000000001", null, null]'


def copied(text: str) -> bytes:
    """As COPY writes a column of its text format."""
    return text.replace("\\", "\\\\").encode() + b"\n"


def test_the_digest_is_that_of_the_documented_text(run, owner):
    """A row whose every byte is given, with its text in full: what another program would compute, on every version."""
    owner.execute(
        "INSERT INTO audit_logs VALUES ('00000000-0000-0000-0000-000000000001', 'ORG', NULL, NULL, NULL, NULL, 'a', "
        """'r', NULL, '{"é": 1.50, "b": [true, null]}', '192.0.2.1', E'\\t\\\\', '2020-02-10 00:00:00.000001+00')"""
    )
    assert run()[0] == run("seal")[0] == 0
    digest, names = owner.execute("SELECT digest, names_digest FROM audit_seals").fetchone()
    assert digest == hashlib.sha256(copied(TEXT)).hexdigest()
    assert names == hashlib.sha256(copied(NAMES)).hexdigest()


def test_a_persons_name_is_erased_and_the_seals_hold(run, sealed, owner, connected_to, migrated_database):
    from audit import names

    with connected_to(migrated_database):
        assert names.erase_names("default", user_id=ALICE) == 9
        assert names.erase_names("default", user_id=ALICE) == 0
    assert owner.execute("SELECT count(*), count(actor_label) FROM audit_logs").fetchone() == (9, 0)
    assert run("verify") == (0, "2 sealed months: no faults\n", "")


def test_no_name_is_erased_over_names_that_were_changed(run, sealed, superuser, connected_to, migrated_database):
    from audit import names
    from audit.months import PartitionError

    tamper(superuser, "UPDATE audit_logs_2020_03 SET actor_label = 'Bob' WHERE resource_id = '1'")
    with connected_to(migrated_database), pytest.raises(PartitionError) as refusal:
        names.erase_names("default", user_id=ALICE)
    assert str(refusal.value).startswith("the names of 2020-03 are not as they were sealed, so that none is erased.")
    assert superuser.execute("SELECT count(*) FROM audit_logs WHERE actor_label IS NULL").fetchone() == (0,)


def test_a_seal_is_never_changed(owner, sealed):
    for statement in (
        "UPDATE audit_seals SET digest = digest",
        "UPDATE audit_seals SET sealed_at = statement_timestamp()",
        "DELETE FROM audit_seals",
        "TRUNCATE audit_seals CASCADE",
    ):
        with pytest.raises(errors.RestrictViolation):
            owner.execute(statement)


def test_names_are_taken_away_and_not_changed(owner, sealed):
    with pytest.raises(errors.RestrictViolation):
        owner.execute("UPDATE audit_logs SET actor_label = 'Bob'")
    with pytest.raises(errors.RestrictViolation):
        owner.execute("UPDATE audit_logs SET actor_label = NULL, action = 'b'")


def test_dbhealth_knows_sealed_months_and_tells_of_one_that_is_open(manage, migrated_database, owner, sealed):
    assert (
        manage("dbhealth", "--only", "keyhub.H010", "--only", "audit.H006", database=migrated_database).returncode == 0
    )
    owner.execute("ALTER TABLE audit_logs_2020_02 DISABLE TRIGGER refuse_audit_logs_insert")
    owner.execute("DROP TRIGGER refuse_audit_logs_insert ON audit_logs_2020_03")
    result = manage("dbhealth", "--only", "audit.H006", database=migrated_database)
    lines = result.stdout.splitlines()
    assert result.returncode == 1
    assert [line for line in lines if line.startswith("CRITICAL")] == [
        f"CRITICAL audit.H006 audit_logs_2020_{month}: the month is sealed, and lets rows in" for month in ("02", "03")
    ]
    for line in lines:
        if line.startswith("    "):
            owner.execute(line)
    assert manage("dbhealth", "--only", "audit.H006", database=migrated_database).returncode == 0


@pytest.mark.once
def test_killed_at_any_moment_the_next_run_seals(server, migrated_database, months, run, owner):
    record(owner, "2020-03-20 00:00:00+00", rows=20_000)
    environment = {**os.environ, "DATABASE_URL": database_url(server, migrated_database)}
    started = time.monotonic()
    run("seal", "--help")
    base = time.monotonic() - started
    for number in range(12):
        process = Run("auditpartitions", "seal", env=environment)
        time.sleep(base * 0.8 + number * 0.05)
        process.kill()
        process.communicate()
    assert run("seal")[0] == 0
    code, out, _ = run("verify", "--format", "json")
    told = json.loads(out)
    assert (code, told["faults"]) == (0, [])
    assert [(seal["number"], seal["month"], seal["rows"]) for seal in told["seals"]] == [
        (1, "2020-02", 3),
        (2, "2020-03", 20_003),
    ]
    assert re.fullmatch("[0-9a-f]{64}", told["seals"][1]["previous"])
