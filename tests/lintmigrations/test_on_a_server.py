"""What the rules say of PostgreSQL is so: their fixtures, run on a server."""

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from keyhub.lintmigrations import linter
from keyhub.lintmigrations.sql_files import file_steps
from keyhub.sql_text import statements
from tests.lintmigrations.fixtures import RULES, history

# What the server says at the level debug1 of a statement that holds its lock for long.
LONG = ("rewriting table", "verifying table", "validating foreign key constraint", "building index")
HELD_UP = {
    "M007_constraint_without_not_valid": ["verifying table", "verifying table", "validating foreign key constraint"],
    "M008_unique_without_index": ["building index", "building index"],
    "M010_rewrite": ["rewriting table", "rewriting table"],
    "M011_not_null_scan": ["verifying table"],
    "M012_volatile_default": ["rewriting table", "rewriting table"],
}
# By rule, the SQLSTATE of the refusal: https://www.postgresql.org/docs/current/errcodes-appendix.html
REFUSED = {
    "M017_concurrently_in_transaction": "25001",
    "M017_concurrently_on_partitioned_table": "0A000",
    "M020_clock_in_index": "42P17",
    "M023_partition_of_plain_table": "42P17",
    "M024_key_without_partition_key": "0A000",
}
# Rules whose mend is SQL, and where it goes: beside what the fixture's last script does, or in its place.
MENDS = {
    "M006_index_without_concurrently": "instead",
    "M007_constraint_without_not_valid": "instead",
    "M008_unique_without_index": "instead",
    "M011_not_null_scan": "instead",
    "M012_volatile_default": "instead",
    "M013_partition_of_existing": "instead",
    "M018_if_not_exists": "instead, in one",
    "M021_trigger_without_column": "beside",
    "M025_no_default_partition": "beside",
    "M029_key_without_index": "beside",
    "M033_updated_at_without_trigger": "beside",
}
NO_SQL = "Make a new table, and move the rows to it in batches."
# (rule, the lock that it speaks of, on which table)
LOCKS = [
    ("M006_index_without_concurrently", "ShareLock", "tenants"),
    ("M013_partition_of_existing", "AccessExclusiveLock", "events"),
]


def scripts(rule: str, side: str) -> list[str]:
    return [path.read_text() for path in sorted((RULES / rule / side).glob("*.sql"))]


@pytest.fixture
def client(server, migrated_database):
    with server.connect(migrated_database, "keyhub") as client:
        yield client


@pytest.fixture
def said(client) -> Callable[[str], set[str]]:
    """Run a statement; return what it says of work on rows and indexes, in short."""
    messages: list[str] = []
    client.add_notice_handler(lambda notice: messages.append(notice.message_primary))
    client.execute("SET client_min_messages = debug1")

    def run(statement: str) -> set[str]:
        messages.clear()
        client.execute(statement)
        # A table that comes to need one gets an empty table for long values, with its index.
        return {long for message in messages for long in LONG if message.startswith(long) and "pg_toast" not in message}

    return run


@pytest.mark.parametrize("rule", HELD_UP)
def test_what_fires_reads_or_rewrites_the_table(rule, said):
    *before, last = scripts(rule, "fires")
    for script in before:
        said(script)
    for statement, expected in zip(statements(last), HELD_UP[rule], strict=True):
        assert expected in said(statement), statement


@pytest.mark.parametrize("rule", HELD_UP)
def test_what_passes_does_not(rule, said):
    for script in scripts(rule, "passes"):
        made = set()
        for statement in statements(script):
            what, _, table = statement.split()[:3]
            done = said(statement)
            if what == "CREATE":
                made.add(table)
            elif table not in made and "VALIDATE" not in statement:
                assert (statement, done) == (statement, set())


@pytest.mark.parametrize("rule", REFUSED)
def test_what_fires_is_refused(rule, client):
    *before, last = scripts(rule, "fires")
    for script in before:
        client.execute(script)
    with pytest.raises(psycopg.Error) as refused:
        client.execute(last)
    assert refused.value.sqlstate == REFUSED[rule]


@pytest.mark.parametrize("rule", REFUSED)
def test_what_passes_is_taken(rule, client):
    for script in scripts(rule, "passes"):
        client.execute(script)


@pytest.mark.parametrize(("rule", "mode", "table"), LOCKS)
def test_what_fires_takes_the_lock(rule, mode, table, client):
    *before, last = scripts(rule, "fires")
    for script in before:
        client.execute(script)
    with client.transaction():
        client.execute(last)
        held = client.execute(
            "SELECT mode FROM pg_locks WHERE relation = %s::regclass AND pid = pg_backend_pid()", [table]
        ).fetchall()
    assert (mode,) in held


@pytest.mark.parametrize("rule", MENDS)
def test_a_mend_is_ready_to_be_pasted(rule, client, tmp_path, monkeypatch):
    """The server takes it, and so does the rule."""
    rule_id = f"keyhub.{rule.partition('_')[0]}"
    monkeypatch.chdir(RULES / rule)
    report = linter.lint(history(Path("fires")), ask_squawk=False)
    told = [finding.mend for finding in report.findings if finding.id == rule_id]
    mends = [mend for mend in told if mend != NO_SQL]
    *before, last = scripts(rule, "fires")
    match MENDS[rule]:
        case "beside":
            after = ["\n".join([last, *mends])]
        case "instead":
            after = [step for mend in mends for step in in_steps(mend)]
        case "instead, in one":
            after = ["\n".join(mends)]
    paths = [tmp_path / f"{number:02}.sql" for number in range(len(before + after))]
    for path, script in zip(paths, before + after, strict=True):
        path.write_text(script)
        # Each statement by itself, as CONCURRENTLY wants it.
        for statement in statements(script):
            client.execute(statement)
    findings = linter.lint(file_steps(paths), ask_squawk=False).findings
    assert mends
    assert [finding.problem for finding in findings if finding.id == rule_id] == []


def in_steps(mend: str) -> list[str]:
    """The SQL of a mend, one text for each migration that it speaks of."""
    first, *rest = mend.split("\n")
    lines = rest if first.endswith(":") else [first, *rest]
    return [part for part in re.split(r"^-- and in .*:$", "\n".join(lines), flags=re.MULTILINE) if part.strip()]


def test_a_trigger_without_the_column_makes_every_update_fail(client):
    (script,) = scripts("M021_trigger_without_column", "fires")
    client.execute(script)
    client.execute("INSERT INTO badges VALUES (1)")
    with pytest.raises(psycopg.Error, match='record "new" has no field "updated_at"'):
        client.execute("UPDATE badges SET id = 2")


def test_a_bound_without_an_offset_follows_the_session(client):
    (script,) = scripts("M022_bound_without_offset", "fires")
    client.execute("SET TimeZone = 'Asia/Tokyo'")
    client.execute(script)
    client.execute("SET TimeZone = 'UTC'")
    (bound,) = client.execute(
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'events_2026_12'"
    ).fetchone()
    assert bound == "FOR VALUES FROM ('2026-11-30 15:00:00+00') TO ('2026-12-31 15:00:00+00')"


OUTSIDE = "M036_not_repeatable_outside_a_transaction"
PREPARATION = (
    "CREATE TABLE badges (id bigint, label text, colour text)",
    "ALTER TABLE badges ADD CONSTRAINT badges_check_label CHECK (label <> '') NOT VALID",
    "CREATE TABLE parts (id int) PARTITION BY LIST (id)",
    "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1)",
    "CREATE INDEX idx_parts ON ONLY parts (id)",
    "CREATE INDEX idx_parts_1 ON parts_1 (id)",
)


def test_what_passes_outside_a_transaction_can_be_repeated(client):
    """All but CREATE INDEX CONCURRENTLY, which migrate does not repeat where the index is its own."""
    for statement in PREPARATION:
        client.execute(statement)
    outside = [step for step in history(RULES / OUTSIDE / "passes") if not step.atomic]
    texts = [statement.text for step in outside for statement in step.up + step.down]
    repeated = [text for text in texts if "CREATE" not in text]
    assert len(repeated) == 7
    for statement in repeated:
        client.execute(statement)
        client.execute(statement)


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        ("ALTER TABLE badges ADD CONSTRAINT badges_check_colour CHECK (colour <> '') NOT VALID", "42710"),
        ("DROP INDEX CONCURRENTLY idx_badges_colour", "42704"),
        ("ALTER TABLE parts DETACH PARTITION parts_1 CONCURRENTLY", "42P01"),
    ],
)
def test_what_fires_outside_a_transaction_cannot_be_repeated(client, statement, sqlstate):
    for before in (*PREPARATION, "CREATE INDEX idx_badges_colour ON badges (colour)", statement):
        client.execute(before)
    with pytest.raises(psycopg.Error) as refused:
        client.execute(statement)
    assert refused.value.sqlstate == sqlstate


@pytest.mark.parametrize(
    ("name", "sqlstate"),
    [("20240101000001_initial_schema", "42P17"), ("20240301000001_add_audit_logs", "42P17")],
)
def test_the_source_stops_even_with_its_extension(name, sqlstate, client):
    """The first file at the clock in an index, the fourth at its partitions."""
    client.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    client.execute("CREATE FUNCTION uuid_generate_v4() RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()'")
    if name.endswith("add_audit_logs"):
        client.execute("CREATE TABLE tenants (id uuid PRIMARY KEY); CREATE TABLE users (id uuid PRIMARY KEY)")
    script = (RULES.parent / "source" / f"{name}.up.sql").read_text()
    with pytest.raises(psycopg.Error) as refused:
        client.execute(script.replace('CREATE EXTENSION IF NOT EXISTS "uuid-ossp";', ""))
    assert refused.value.sqlstate == sqlstate
