"""Old months leave audit_logs once their archive is proved: no row is lost, none is there twice."""

import json
import os
import re
import subprocess
import sys
import threading
from datetime import timedelta

import duckdb
import psycopg
import pyarrow.parquet as pq
import pytest
from psycopg import errors

from audit import archives, retirement, short_locks
from audit.short_locks import PartitionLockError
from keyhub.store import Store
from tests.backups.object_store import BUCKET, object_store
from tests.conftest import REPOSITORY, database_url

pytestmark = pytest.mark.database

ALICE = "00000000-0000-0000-0000-00000000000a"
RETIRE = ("retire", "--retention-months", "12")
TEXT = "E'tab\\there \\\\N é 日本 \\x7f \\x01\\nline \"quoted\" '"


def record(owner, moment: str, rows: int = 3) -> None:
    """Rows of whatever can stand in them; each third has NULL wherever it may."""
    owner.execute(
        f"""
        INSERT INTO audit_logs (organization_id, tenant_id, tenant_label, user_id, actor_label, action, resource_type,
            resource_id, details, ip_address, user_agent, created_at, outcome, request_id)
        SELECT 'ORG', '{ALICE}'::uuid, 'The tenant', '{ALICE}'::uuid, 'Alice é', {TEXT}, 'session', n::text,
            '{{"b": 1.50, "a": [null, "\\\\ \\t \\u20ac"], "c": 1e400}}'::jsonb, inet '2001:db8::1/64', {TEXT},
            %(moment)s::timestamptz + n * interval '1.000001 second', 'denied', ''
        FROM generate_series(1, %(rows)s) AS n WHERE n %% 3 > 0
        UNION ALL SELECT 'ORG', NULL, NULL, NULL, NULL, 'a', '', NULL, CASE WHEN n %% 2 = 0 THEN 'null'::jsonb END,
            NULL, NULL, %(moment)s::timestamptz + n * interval '1.000001 second', NULL, NULL
        FROM generate_series(1, %(rows)s) AS n WHERE n %% 3 = 0
        """,
        {"moment": moment, "rows": rows},
    )


@pytest.fixture
def archive(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIT_ARCHIVE_URL", f"file://{tmp_path}/archive")
    return tmp_path / "archive"


@pytest.fixture
def run(archive, run):
    """Where it is said where months are archived."""
    return run


@pytest.fixture
def months(run, owner) -> list[str]:
    """Two old months with rows, and rows of today."""
    record(owner, "2020-02-10 00:00:00+00", rows=7)
    record(owner, "2020-03-10 00:00:00+00", rows=4)
    record(owner, "now", rows=2)
    assert run("make")[0] == 0
    return ["2020-02", "2020-03"]


@pytest.fixture
def retired(run, months) -> list[str]:
    code, out, err = run(*RETIRE)
    assert (code, err) == (0, "")
    return out.splitlines()


def drop(run) -> None:
    code, out, _ = run(*RETIRE, "--grace-days", "0")
    assert (code, out) == (0, "2020-02: dropped\n2020-03: dropped\n")


def tables(owner) -> list[str]:
    rows = owner.execute("SELECT relname FROM pg_class WHERE relname ~ '^audit_logs_2020' AND relkind = 'r' ORDER BY 1")
    return [name for (name,) in rows]


def read_parquet(archive, name: str, month: str) -> list[dict]:
    (file,) = archive.glob(f"*/*/audit_logs/{month}/{name}*.parquet")
    return pq.read_table(file).to_pylist()


def test_each_step_is_told_and_done(run, retired, owner):
    assert [re.sub(r"\d+ bytes", "… bytes", line) for line in retired] == [
        "2020-02: sealed, 7 rows",
        "2020-02: archived, 7 rows, … bytes, read back",
        "2020-02: detached, into audit_logs_2020_02_retired, for 7 days",
        "2020-03: sealed, 4 rows",
        "2020-03: archived, 4 rows, … bytes, read back",
        "2020-03: detached, into audit_logs_2020_03_retired, for 7 days",
    ]
    assert owner.execute("SELECT count(*) FROM audit_logs").fetchone() == (2,)
    assert owner.execute("SELECT count(*) FROM audit_logs_2020_02_retired").fetchone() == (7,)
    assert run(*RETIRE) == (0, "Nothing to do: no month is older than 12 months.\n", "")
    assert run("verify") == (0, "2 sealed months: no faults\n", "")
    drop(run)
    assert tables(owner) == []
    assert run("verify") == (0, "2 sealed months: no faults\n", "")


@pytest.mark.once
def test_what_is_done_daily(run, months, this_month):
    planned = run("--retention-months", "12", "--plan")[1].splitlines()
    assert planned[1:] == [f"{month}: would be sealed" for month in months] + [
        f"{month}: would be {done}" for month in months for done in ("archived", "detached")
    ]
    code, out, _ = run("--ahead", "4", "--retention-months", "12", "--format", "json")
    told = json.loads(out)
    assert code == 0
    assert told["made"] == [this_month.plus(4).partition]
    assert [seal["month"] for seal in told["sealed"]] == months
    assert [(step["month"], step["done"]) for step in told["retired"]] == [
        (month, done) for month in months for done in ("archived", "detached")
    ]


@pytest.mark.once
def test_the_months_that_stay(run, owner, this_month):
    record(owner, f"{this_month.plus(-2).start}", rows=1)
    record(owner, f"{this_month.plus(-1).start}", rows=1)
    run("make")
    assert run("retire", "--retention-months", "2", "--plan")[1].startswith("Nothing to do")
    assert run("retire", "--retention-months", "1", "--plan")[1].splitlines() == [
        f"{this_month.plus(-2)}: would be {done}" for done in ("sealed", "archived", "detached")
    ]


@pytest.mark.once
def test_a_plan_changes_nothing(run, months, owner, archive, schema_dump, migrated_database):
    before = schema_dump(migrated_database)
    code, out, _ = run(*RETIRE, "--plan")
    assert (code, out.splitlines()[:3]) == (
        0, ["2020-02: would be sealed", "2020-02: would be archived", "2020-02: would be detached"]
    )  # fmt: skip
    assert schema_dump(migrated_database) == before
    assert not archive.exists()
    assert owner.execute("SELECT count(*) FROM audit_seals").fetchone() == (0,)
    run(*RETIRE)
    assert re.fullmatch(
        "(2020-0[23]: would be dropped, from [0-9-]+ on\n){2}", run(*RETIRE, "--plan", "--grace-days", "3")[1]
    )
    assert run(*RETIRE, "--plan", "--grace-days", "0")[1] == "2020-02: would be dropped\n2020-03: would be dropped\n"


def test_the_parquet_holds_what_the_table_held(months, run, owner, archive):
    columns = (
        "id::text, created_at, organization_id, tenant_id::text, user_id::text, action, resource_type, resource_id, "
        "outcome, details::text, host(ip_address) AS ip_address, user_agent, request_id"
    )
    query = f"SELECT {columns} FROM audit_logs_2020_02 ORDER BY audit_logs_2020_02.created_at, audit_logs_2020_02.id"
    with owner.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        rows = cursor.execute(query).fetchall()
        labels = cursor.execute(
            "SELECT id::text, user_id::text, actor_label, tenant_label FROM audit_logs_2020_02 ORDER BY created_at, id"
        ).fetchall()
    run(*RETIRE)
    assert read_parquet(archive, "rows", "2020-02") == rows
    assert read_parquet(archive, "names", "2020-02") == labels
    (seal,) = archive.glob("*/*/audit_logs/2020-02/seal.json")
    assert json.loads(seal.read_text()) == json.loads(run("verify", "--format", "json")[1])["seals"][0]


def test_a_month_of_several_groups_and_one_without_rows(
    run, owner, archive, connected_to, migrated_database, monkeypatch
):

    monkeypatch.setattr(archives, "CHARACTERS_A_GROUP", 500)
    record(owner, "2020-02-10 00:00:00+00", rows=20)
    owner.execute(
        "CREATE TABLE audit_logs_2020_04 PARTITION OF audit_logs "
        "FOR VALUES FROM ('2020-04-01 00:00:00+00') TO ('2020-05-01 00:00:00+00')"
    )
    run("make")
    with connected_to(migrated_database):
        steps = list(retirement.retire("default", Store(f"file://{archive}"), 12, timedelta(0)))
    assert [(step.month, step.done) for step in steps[1::3][:2]] == [("2020-02", "archived"), ("2020-04", "archived")]
    (file,) = archive.glob("*/*/audit_logs/2020-02/rows.parquet")
    assert pq.ParquetFile(file).num_row_groups > 5
    assert read_parquet(archive, "rows", "2020-04") == []
    assert run("verify") == (0, "2 sealed months: no faults\n", "")


@pytest.mark.once
def test_duckdb_reads_it_as_the_page_says(retired, archive):
    page = (REPOSITORY / "docs/operations/auditpartitions.md").read_text()
    (query,) = re.findall(r"^```sql\n(SELECT.*read_parquet.*?)^```$", page, re.MULTILINE | re.DOTALL)
    with duckdb.connect() as client:
        found = client.execute(query.replace("s3://bucket/audit", str(archive))).fetchall()
    assert len(found) == 3
    assert found[0][1:] == ("Alice é", "session", "1.5")


def test_dbhealth_stays_healthy(manage, migrated_database, retired, run):
    for _ in ("detached", "dropped"):
        result = manage("dbhealth", database=migrated_database)
        assert (result.returncode, result.stdout) == (0, "default: healthy\n")
        run(*RETIRE, "--grace-days", "0")


def test_dbhealth_tells_when_rows_of_retired_months_are_let_in(manage, migrated_database, retired, owner):
    owner.execute("ALTER TABLE audit_logs_default DISABLE TRIGGER refuse_audit_logs_insert")
    result = manage("dbhealth", "--only", "audit.H006", "--format", "json", database=migrated_database)
    (finding,) = json.loads(result.stdout)["findings"]
    assert (finding["severity"], finding["object"]) == ("critical", "audit_logs_default")
    owner.execute(finding["mend"])
    assert manage("dbhealth", "--only", "audit.H006", database=migrated_database).returncode == 0
    with pytest.raises(errors.RestrictViolation):
        record(owner, "2020-03-10 00:00:00+00")


def test_a_retired_month_takes_no_row_any_more_and_others_do(owner, retired):
    for moment in ("2020-03-31 23:59:58+00", "2020-02-10 00:00:00+00", "2019-01-01 00:00:00+00"):
        with pytest.raises(errors.RestrictViolation) as refusal:
            record(owner, moment, rows=1)
        assert "is sealed, and takes no row any more." in refusal.value.diag.message_primary
    for moment in ("2020-05-01 00:00:00+00", "now", "-infinity", "2999-01-01 00:00:00+00"):
        record(owner, moment, rows=1)


def test_a_detached_month_is_still_append_only(owner, retired):
    for statement in (
        "UPDATE {} SET action = 'b'", "DELETE FROM {}", "TRUNCATE {}",
        "INSERT INTO {} SELECT * FROM audit_logs WHERE false UNION ALL SELECT * FROM {}",
    ):  # fmt: skip
        with pytest.raises(errors.RestrictViolation):
            owner.execute(statement.replace("{}", "audit_logs_2020_02_retired"))


def test_a_month_is_attached_again_as_the_page_says(owner, retired, run):
    page = (REPOSITORY / "docs/operations/auditpartitions.md").read_text()
    (statements,) = re.findall(r"^```sql\n(ALTER TABLE audit_logs_2020_02_retired.*?)^```$", page, re.M | re.S)
    owner.execute(statements)
    assert owner.execute("SELECT count(*) FROM audit_logs").fetchone() == (9,)
    assert run("verify") == (0, "2 sealed months: no faults\n", "")
    assert run(*RETIRE, "--grace-days", "0")[1].splitlines() == [
        "2020-02: detached, into audit_logs_2020_02_retired, for 0 days", "2020-02: dropped", "2020-03: dropped",
    ]  # fmt: skip


def damage(archive, name: str) -> None:
    (file,) = archive.glob(f"*/*/audit_logs/2020-02/{name}*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.once
@pytest.mark.parametrize("name", ["rows", "names"])
def test_a_damaged_archive_is_found_and_keeps_its_month_from_being_dropped(run, retired, archive, owner, name):
    damage(archive, name)
    code, out, _ = run("verify")
    assert (code, out.splitlines()[-1]) == (1, "2 sealed months: 1 fault")
    assert re.match(
        rf"2020-02: file://.*/{name}.*is not what was written there: it was changed or is damaged$",
        out[:-1].splitlines()[0],
    )
    code, out, err = run(*RETIRE, "--grace-days", "0")
    assert (code, out) == (1, "")
    assert "is not what was written there: it was changed or is damaged." in err
    assert "audit_logs_2020_02_retired" in tables(owner)


@pytest.mark.once
def test_a_missing_archive_is_found(run, retired, archive, owner):
    for file in archive.glob("*/*/audit_logs/2020-02/rows.parquet"):
        file.unlink()
    assert re.search(
        "2020-02: .* has no .*/2020-02/rows.parquet, although the month was archived there", run("verify")[1]
    )
    assert run(*RETIRE, "--grace-days", "0")[0] == 1
    assert "audit_logs_2020_02_retired" in tables(owner)


def test_a_row_that_was_changed_after_the_seal_is_not_archived(server, run, months, migrated_database, archive):
    assert run("seal")[0] == 0
    with server.connect(migrated_database) as superuser:
        superuser.execute("SET session_replication_role = replica")
        superuser.execute("UPDATE audit_logs_2020_02 SET action = 'b' WHERE resource_id = '1'")
        code, out, err = run(*RETIRE)
        assert (code, out) == (1, "")
        assert "/2020-02/rows.parquet is not the rows that were sealed" in err
        assert superuser.execute("SELECT count(*) FROM audit_archives").fetchone() == (0,)
        assert tables(superuser) == ["audit_logs_2020_02", "audit_logs_2020_03"]


def test_a_name_is_erased_wherever_it_stands(run, owner, archive, months):
    record(owner, "2020-05-10 00:00:00+00", rows=1)
    run("make")
    run(*RETIRE, "--grace-days", "0")
    record(owner, "2020-06-10 00:00:00+00", rows=1)
    run("make")
    run(*RETIRE)  # dropped, and still there
    code, out, err = run("erase", "--user", ALICE)
    assert (code, err) == (0, "")
    assert out == "3 rows: the name was erased, and from the archives that had it\n"
    names = archive.glob("**/names-*.parquet")
    labels = [row for file in names for row in pq.read_table(file).to_pylist()]
    assert len(labels) == 13
    assert {row["actor_label"] for row in labels} == {None}
    assert {row["tenant_label"] for row in labels} == {None, "The tenant"}
    assert "Alice" not in "".join(file.read_bytes().decode("latin-1") for file in archive.rglob("*") if file.is_file())
    assert owner.execute("SELECT count(actor_label) FROM audit_logs_2020_06_retired").fetchone() == (0,)
    assert run("verify") == (0, "4 sealed months: no faults\n", "")
    assert run("erase", "--user", ALICE)[1].startswith("0 rows")


@pytest.mark.once
def test_no_name_is_erased_from_an_archive_that_was_changed(run, retired, archive, owner):
    damage(archive, "names")
    code, _, err = run("erase", "--user", ALICE)
    assert code == 1
    assert "is not what was written there" in err
    assert owner.execute("SELECT count(actor_label) FROM audit_logs").fetchone() == (2,)


@pytest.mark.once
def test_into_an_object_store(run, months, monkeypatch, owner):
    with object_store() as remote:
        for name, value in remote.environment.items():
            monkeypatch.setenv(name, value)
        url = ("--archive", f"s3://{BUCKET}/audit")
        code, out, err = run(*RETIRE, "--grace-days", "0", *url)
        assert (code, err) == (0, "")
        assert out.count("dropped") == 2
        assert run("verify", *url)[:2] == (0, "2 sealed months: no faults\n")
        names = {re.sub(r"^.*/audit_logs/|-[0-9a-f]{8}\.", "", path) for path in remote.paths()}
        assert len(names) == 6


@pytest.mark.once
def test_a_store_that_is_not_there(run, months, owner, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run(*RETIRE, "--archive", f"file://{tmp_path}/file")
    assert code == 1
    assert "Traceback" not in err
    assert tables(owner) == ["audit_logs_2020_02", "audit_logs_2020_03"]


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["retire"], "retire asks how many months stay: --retention-months MONTHS"),
        (["retire", "--retention-months", "0"], "0 is not a number of months from 1 to 1200"),
        (["retire", "--retention-months", "x"], "invalid number of months value: 'x'"),
        (["erase"], "erase and --user ID belong together: whose name is to go?"),
        (["erase", "--user", "x"], "argument --user: invalid UUID value: 'x'"),
        (["verify", "--plan"], "--plan is not for verify, which has nothing to plan."),
        ([*RETIRE, "--archive", "ftp://x"], "'ftp://x' names no store."),
    ],
)
def test_wrong_use(run, arguments, words):
    code, out, err = run(*arguments)
    assert (code, out) == (1 if "ftp" in words else 2, "")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.once
def test_where_it_is_not_said_where_to(manage, migrated_database):
    result = manage("auditpartitions", *RETIRE, database=migrated_database)
    assert (result.returncode, result.stdout) == (2, "")
    assert "it is not said where retired months are kept. Set AUDIT_ARCHIVE_URL" in result.stderr


@pytest.mark.once
def test_archives_are_not_overlooked_where_it_is_not_said_where_they_are(
    manage, migrated_database, retired, monkeypatch
):
    monkeypatch.delenv("AUDIT_ARCHIVE_URL")
    for arguments in (["verify"], ["erase", "--user", ALICE]):
        result = manage("auditpartitions", *arguments, database=migrated_database)
        assert (result.returncode, result.stdout) == (1, "")
        assert "months are archived, and it is not said where. Set AUDIT_ARCHIVE_URL" in result.stderr


def test_somebody_who_reads_for_long_is_not_in_the_way_for_ever(
    server, run, months, migrated_database, connected_to, monkeypatch, archive
):
    monkeypatch.setattr(short_locks, "TRIES", 2)
    with connected_to(migrated_database), server.connect(migrated_database, "keyhub") as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM audit_logs")
        steps = retirement.retire("default", Store(f"file://{archive}"), 12, timedelta(days=7))
        assert [next(steps).done, next(steps).done] == ["sealed", "archived"]
        with pytest.raises(PartitionLockError, match=r"^audit_logs_2020_02 could not be detached in 2 tries, because"):
            next(steps)
        assert tables(reader) == ["audit_logs_2020_02", "audit_logs_2020_03"]
        reader.execute("ROLLBACK")
    assert run(*RETIRE)[1].splitlines()[0].startswith("2020-02: detached")


def test_writers_and_readers_go_on_meanwhile(server, run, months, migrated_database, owner):
    """Nobody is refused, and whoever counts sees a month whole or not at all."""
    over = threading.Event()
    counts: set[int] = set()
    written: list[int] = []

    def write() -> None:
        with server.connect(migrated_database, "keyhub") as writer:
            while not over.is_set():
                record(writer, "now", rows=1)
                written.append(1)

    def read() -> None:
        with server.connect(migrated_database, "keyhub") as reader:
            while not over.is_set():
                counts.add(
                    reader.execute("SELECT count(*) FROM audit_logs WHERE created_at < '2021-01-01'").fetchone()[0]
                )

    threads = [threading.Thread(target=write), threading.Thread(target=write), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    try:
        assert run(*RETIRE, "--grace-days", "0")[0] == 0
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert counts <= {11, 4, 0}
    assert owner.execute("SELECT count(*) FROM audit_logs").fetchone() == (len(written) + 2,)


@pytest.mark.once
def test_killed_before_every_step(server, migrated_database, months, run, archive, owner):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.audit.retirement_killer", *RETIRE[1:], "--grace-days", "0"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
        env={**os.environ, "DATABASE_URL": database_url(server, migrated_database)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    killed = json.loads(result.stdout)
    assert len(killed) > 40
    assert any('INSERT INTO "audit_archives"' in step for step in killed)
    for part in ("DETACH PARTITION", "DROP TABLE", "put ", "write ", "chunks "):
        assert sum(part in step for step in killed) >= 2, part
    assert tables(owner) == []
    assert run("verify") == (0, "2 sealed months: no faults\n", "")
    assert len(read_parquet(archive, "names", "2020-02")) == 7  # of one file, whatever the kills left behind
    assert owner.execute("SELECT count(*) FROM audit_logs").fetchone() == (2,)
    assert run(*RETIRE) == (0, "Nothing to do: no month is older than 12 months.\n", "")
