"""What docs/scale.md says of tables, keys and triggers is so in the live catalogue, and its SQL runs as written.

Whether Citus takes a key is told by the rules that the page cites: Citus itself is not here.
"""

import re
from dataclasses import dataclass
from textwrap import dedent

import pytest
from django.db import connection

from keyhub.lintmigrations import linter
from keyhub.sql_text import statements
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs/scale.md").read_text()
SIGNS, _, REST = PAGE.partition("\n## Several tenant databases ")
PLAN = REST.partition("\n### The plan\n")[2]
TABLES = re.findall(r"^### (\w+)$", (REPOSITORY / "docs/schema.md").read_text(), re.MULTILINE)
TABLES_HEAD = "| table | by organization | by tenant | triggers | that ask a table |"
KEYS_HEAD = "| table | key | on | by organization | by tenant |"
WITHOUT_COLUMN = {"reference", "local", "Admin database"}
FILL = re.compile(r"UPDATE tenant_memberships SET organization_id")
EVERYBODY_IN_EVERY_TENANT = """
    INSERT INTO tenant_memberships (tenant_id, user_id) SELECT tenants.id, users.id FROM tenants, users
"""

UNIQUE_KEYS = """
    SELECT indrelid::regclass::text, relname, substring(pg_get_indexdef(indexrelid) FROM ' USING btree (.*)$'), '',
        ARRAY(SELECT attname::text FROM pg_attribute
            WHERE attrelid = indrelid AND attnum = ANY ((indkey::int2[])[:indnkeyatts - 1])),
        '{}'::text[], 'a', 'a'
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indisunique AND indrelid::regclass::text = ANY (%s)
    ORDER BY NOT indisprimary, relname
"""
FOREIGN_KEYS = """
    SELECT conrelid::regclass::text, conname,
        replace(substring(pg_get_constraintdef(pg_constraint.oid) FROM 'FOREIGN KEY (.*)$'), 'REFERENCES', '→'),
        confrelid::regclass::text,
        ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS key (number, place)
            JOIN pg_attribute ON attrelid = conrelid AND attnum = number ORDER BY place),
        ARRAY(SELECT attname::text FROM unnest(confkey) WITH ORDINALITY AS key (number, place)
            JOIN pg_attribute ON attrelid = confrelid AND attnum = number ORDER BY place),
        confupdtype::text, confdeltype::text
    FROM pg_constraint
    WHERE contype = 'f' AND conrelid::regclass::text = ANY (%s)
    ORDER BY conname
"""
TRIGGERS = """
    SELECT tgrelid::regclass::text, prosrc FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
    WHERE NOT tgisinternal AND tgrelid::regclass::text = ANY (%s)
"""


@dataclass(frozen=True)
class Key:
    """A unique key, or a foreign key, which has a target, and actions as pg_constraint writes them."""

    table: str
    name: str
    on: str
    target: str
    columns: list[str]
    target_columns: list[str]
    on_update: str
    on_delete: str

    def is_taken(self, places: dict[str, str]) -> bool:
        """Whether Citus takes it as it is, where each table is distributed by this column, or is one without."""
        own, target = places[self.table], places.get(self.target)
        if not self.target:
            return own in WITHOUT_COLUMN or own in self.columns
        if own in WITHOUT_COLUMN:
            does_nothing = {self.on_update, self.on_delete} <= {"a", "r"}
            return target == "reference" or (target == "local" and does_nothing)
        if own in self.columns and (self.on_update not in "ar" or self.on_delete not in "arc"):
            return False
        return target == "reference" or (own, target) in zip(self.columns, self.target_columns, strict=True)


def rows(query: str, *parameters: object) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters or None)
        return cursor.fetchall()


def lines_below(head: str, page: str) -> list[str]:
    """The rows of a table of the page."""
    return re.match(r"\|[-| ]+\|\n((?:\|.*\n)*)", page.partition(f"\n{head}\n")[2])[1].splitlines()


def line(*cells: object) -> str:
    return "|" + "|".join(f" {cell} " if str(cell) else " " for cell in cells) + "|"


def places(page: str) -> list[dict[str, str]]:
    """Where each table goes, by organization and by tenant."""
    cells = [[cell.strip(" `") for cell in row.split("|")] for row in lines_below(TABLES_HEAD, page)]
    return [{row[1]: row[way] for row in cells} for way in (2, 3)]


def true_lines(page: str) -> tuple[list[str], list[str]]:
    """The rows of both tables as they should be, by the catalogue and by where the page puts each table."""
    ways = places(page)
    triggers = rows(TRIGGERS, TABLES)
    asking = re.compile(rf"\b(?:FROM|JOIN|UPDATE|INTO)\s+(?:{'|'.join(TABLES)})\b")
    of_tables = []
    for table in (table for table in TABLES if table in ways[0]):
        where = [way[table] for way in ways]
        asks = [bool(asking.search(body)) for name, body in triggers if name == table]
        counts = ["", ""] if set(where) <= {"local", "Admin database"} else [len(asks), sum(asks)]
        cells = [place if place in WITHOUT_COLUMN else f"`{place}`" for place in where]
        of_tables.append(line(f"`{table}`", *cells, *counts))
    spread = [table for table in TABLES if any(way.get(table, "local") not in WITHOUT_COLUMN for way in ways)]
    keys = [Key(*row) for query in (UNIQUE_KEYS, FOREIGN_KEYS) for row in rows(query, spread)]
    keys.sort(key=lambda key: TABLES.index(key.table))
    of_keys = [
        line(f"`{key.table}`", f"`{key.name}`", f"`{key.on}`", *("yes" if key.is_taken(way) else "no" for way in ways))
        for key in keys
    ]
    return of_tables, of_keys


def complaints(page: str) -> list[str]:
    found = [f"docs/scale.md does not say where {table} goes." for table in TABLES if table not in places(page)[0]]
    for head, true in zip((TABLES_HEAD, KEYS_HEAD), true_lines(page), strict=True):
        told = lines_below(head, page)
        found += [f"docs/scale.md says, and it is not so: {row}" for row in told if row not in true]
        found += [f"docs/scale.md does not say: {row}" for row in true if row not in told]
    return found


@pytest.mark.django_db
def test_where_tables_go_and_what_their_keys_hold():
    assert "\n".join(complaints(PAGE)) == ""


@pytest.mark.django_db
def test_the_sums():
    of_tables, of_keys = true_lines(PAGE)
    verdicts = [re.search(r"(yes|no) \| (yes|no) \|$", row).groups() for row in of_keys]
    by_organization, by_tenant = ([pair[way] for pair in verdicts].count("yes") for way in (0, 1))
    counts = [re.search(r"(\d+) \| (\d+) \|$", row) for row in of_tables]
    have, ask = (sum(int(count[group]) for count in counts if count) for group in (1, 2))
    text = " ".join(PAGE.split())
    assert f"Of the {len(of_keys)} keys of these tables, {by_organization} are taken by organization and" in text
    assert f"and {by_tenant} by tenant;" in text
    assert f"{by_tenant} keys in place of {by_organization} are ready" in text
    assert f"**{ask} of {have} triggers ask a table.**" in text
    assert f"The {ask} triggers become" in text


@pytest.mark.once
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (
            "`(tenant_id, id, depth)` | no | yes |",
            "`(tenant_id, id, depth)` | yes | yes |",
            [
                "docs/scale.md says, and it is not so: "
                "| `groups` | `groups_tenant_id_id_depth_key` | `(tenant_id, id, depth)` | yes | yes |",
                "docs/scale.md does not say: "
                "| `groups` | `groups_tenant_id_id_depth_key` | `(tenant_id, id, depth)` | no | yes |",
            ],
        ),
        (
            "| `tenants` | `organization_id` | reference | 2 | 1 |",
            "| `tenants` | `organization_id` | reference | 2 | 0 |",
            [
                "docs/scale.md says, and it is not so: | `tenants` | `organization_id` | reference | 2 | 0 |",
                "docs/scale.md does not say: | `tenants` | `organization_id` | reference | 2 | 1 |",
            ],
        ),
        (
            "| `sessions` | `sessions_pkey` | `(id)` | no | no |\n",
            "",
            ["docs/scale.md does not say: | `sessions` | `sessions_pkey` | `(id)` | no | no |"],
        ),
        ("| `audit_seals` | local | local | | |\n", "", ["docs/scale.md does not say where audit_seals goes."]),
        (
            "| `audit_seals` | local | local | | |\n",
            "| `audit_seals` | local | local | | |\n| `audit_keys` | local | local | | |\n",
            ["docs/scale.md says, and it is not so: | `audit_keys` | local | local | | |"],
        ),
    ],
)
def test_a_page_that_is_wrong_is_noticed(before, after, expected):
    assert PAGE.count(before) == 1
    assert complaints(PAGE.replace(before, after)) == expected


@pytest.mark.once
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_pkey, ADD PRIMARY KEY (organization_id, id, created_at)",
            [
                "docs/scale.md says, and it is not so: "
                "| `audit_logs` | `audit_logs_pkey` | `(id, created_at)` | no | no |",
                "docs/scale.md does not say: "
                "| `audit_logs` | `audit_logs_pkey` | `(organization_id, id, created_at)` | yes | yes |",
            ],
        ),
        (
            "DROP TRIGGER leave_groups ON tenant_memberships",
            [
                "docs/scale.md says, and it is not so: "
                "| `tenant_memberships` | `organization_id` | `tenant_id` | 10 | 7 |",
                "docs/scale.md does not say: | `tenant_memberships` | `organization_id` | `tenant_id` | 9 | 6 |",
            ],
        ),
        (
            "ALTER TABLE groups ADD FOREIGN KEY (tenant_id, id, depth) REFERENCES groups (tenant_id, id, depth)",
            [
                "docs/scale.md does not say: | `groups` | `groups_tenant_id_id_depth_fkey` | "
                "`(tenant_id, id, depth) → groups(tenant_id, id, depth)` | no | yes |"
            ],
        ),
    ],
)
def test_a_schema_that_has_changed_is_noticed(statement, expected):
    with connection.cursor() as cursor:
        cursor.execute(statement)
    assert complaints(PAGE) == expected


@pytest.mark.django_db
def test_what_is_unique_over_everybody():
    """What holds an organization, a tenant or the id of a row of one is unique inside of it."""
    keys = [Key(*row) for row in rows(UNIQUE_KEYS, TABLES)]
    inside = {"id", "organization_id", "tenant_id", "group_id", "number", "month"}
    paragraph = re.search(r"^\*\*Some values are unique.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)[0]
    assert set(re.findall(r"`(\w+_\w+)`", paragraph)) == {key.name for key in keys if not inside & set(key.columns)}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "found",
    [
        "SELECT relname FROM pg_class WHERE relkind IN ('v', 'm') AND relnamespace = 'public'::regnamespace",
        "SELECT ev_class::regclass FROM pg_rewrite WHERE ev_class::regclass::text = ANY (%s)",
        "SELECT conname FROM pg_constraint WHERE contype = 'x' AND conrelid::regclass::text = ANY (%s)",
        "SELECT indexrelid::regclass FROM pg_index WHERE indnullsnotdistinct AND indrelid::regclass::text = ANY (%s)",
        "SELECT objid::regclass FROM pg_depend JOIN pg_class ON pg_class.oid = objid AND relkind = 'S' "
        "WHERE classid = 'pg_class'::regclass AND refobjid::regclass::text = ANY (%s)",
    ],
)
def test_what_the_schema_does_not_have(found):
    assert rows(found, *([TABLES] if "%s" in found else [])) == []


def blocks(text: str) -> list[str]:
    return [dedent(block) for block in re.findall(r"^ *```sql\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)]


def test_the_queries_of_the_signs_run(server, migrated_database):
    queries = [query for block in blocks(SIGNS) for query in statements(block)]
    with server.connect(migrated_database) as monitor:
        monitor.execute("SET ROLE pg_monitor")
        found = [monitor.execute(query).fetchall() for query in queries[:-2]]  # the first tells of other sessions
    assert [len(lines) for lines in found[1:]] == [4, 1, 1]
    with server.connect(migrated_database, "keyhub") as owner:
        owner.execute("INSERT INTO users (email) VALUES ('alice@example.com')")
        owner.execute(EVERYBODY_IN_EVERY_TENANT)
        assert [owner.execute(query).fetchall() for query in queries[-2:]] == [[("ORG-DEFAULT-001", 1, 100)], [(1, 1)]]


def test_the_plan_runs_as_written(server, migrated_database):
    with server.connect(migrated_database, "keyhub") as owner:
        owner.execute("INSERT INTO users (email) SELECT n || '@example.com' FROM generate_series(1, 1500) AS n")
        owner.execute(EVERYBODY_IN_EVERY_TENANT)
        for statement in [statement for block in blocks(PLAN) for statement in statements(block)]:
            while owner.execute(statement).rowcount > 0 and FILL.match(statement):
                pass
        owner.execute("INSERT INTO organizations (id, name, slug) VALUES ('ORG-2', 'Two', 'two')")
        owner.execute("UPDATE tenants SET organization_id = 'ORG-2'")
        found = owner.execute("SELECT organization_id, count(*) FROM tenant_memberships GROUP BY organization_id")
        assert found.fetchall() == [("ORG-2", 1500)]
        found = owner.execute("SELECT pg_get_indexdef('tenant_memberships_pkey'::regclass)").fetchone()
        assert found[0].endswith("(organization_id, id)")


@pytest.mark.once
def test_the_plan_is_online(tmp_path):
    """lintmigrations tells of one thing in it: the old primary key goes, on purpose."""
    steps = [step for block in blocks(PLAN) for step in (statements(block) if "CONCURRENTLY" in block else [block])]
    paths = [tmp_path / f"{number:04}_step.sql" for number in range(len(steps))]
    for path, step in zip(paths, steps, strict=True):
        path.write_text(step)
    assert [finding.id for finding in linter.lint_files(paths).findings] == ["squawk.ban-drop-constraint"]
