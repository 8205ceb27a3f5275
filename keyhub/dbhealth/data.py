"""What no constraint says of the rows: rules that apps register, and rows that point nowhere. Run with --data alone.

A rule's query reads its table in bounded time: a big table is sampled, and the finding says so.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from keyhub.dbhealth.examination import Examination, register
from keyhub.dbhealth.findings import Finding, Severity, Skipped, Unreadable

TIMEOUT_MS = 5_000
SAMPLED_ABOVE_ROWS = 1_000_000
SAMPLE_ROWS = 100_000
COUNTED_TO = 1_000
ORPHANS = "keyhub.H040"


@dataclass(frozen=True)
class DataRule:
    """One rule: `query` lists the rows that break it, from the table under the name {table}, which may be sampled.

    `others` are the tables that it reads besides. One that is not `enabled` is known and finds nothing.
    """

    id: str
    table: str
    problem: str
    query: str
    others: tuple[str, ...] = ()
    severity: Severity = Severity.CRITICAL
    enabled: bool = True

    def query_from(self, source: str) -> str:
        return " ".join(self.query.replace("{table}", source).split())


def register_rules(rules: Iterable[DataRule]) -> None:
    """Add rules to the runs with --data. An app calls it from its AppConfig.ready()."""
    for rule in rules:
        register(lambda examination, rule=rule: _broken(examination, rule, rule.table), [rule.id], reads_rows=True)


def _broken(examination: Examination, rule: DataRule, object_name: str) -> Iterator[Finding | Skipped | Unreadable]:
    if not rule.enabled:
        return
    tables = [rule.table, *rule.others]
    state = examination.rows(
        "SELECT name, to_regclass(name) IS NOT NULL, has_table_privilege(to_regclass(name), 'SELECT'), "
        "coalesce((SELECT reltuples FROM pg_class WHERE oid = to_regclass(name)), 0)::bigint "
        "FROM unnest(%s::text[]) AS name",
        [tables],
    )
    if not all(exists for _, exists, _, _ in state):
        return  # drift tells, or it is of a version to come
    unreadable = [name for name, _, readable, _ in state if not readable]
    if unreadable:
        for name in unreadable:
            yield Unreadable(rule.id, name)
        return
    rows = next(count for name, _, _, count in state if name == rule.table)
    source, sampled = rule.table, ""
    if rows > SAMPLED_ABOVE_ROWS:
        percent = 100 * SAMPLE_ROWS / rows
        source = f"(SELECT * FROM {rule.table} TABLESAMPLE SYSTEM ({percent:.6f}))"
        sampled = f", in a sample of about {SAMPLE_ROWS} of {rows} rows"
    count = examination.bounded_rows(
        f"SELECT count(*) FROM ({rule.query_from(source)} LIMIT {COUNTED_TO}) AS broken", TIMEOUT_MS
    )
    listing = f"{rule.query_from(rule.table)};"
    if count is None:
        yield Skipped(rule.id, object_name, f"its query takes longer than {TIMEOUT_MS / 1000:g} s", listing)
    elif count[0][0]:
        number = f"{COUNTED_TO} or more" if count[0][0] >= COUNTED_TO else str(count[0][0])
        plural = "row" if number == "1" else "rows"
        yield Finding(rule.id, rule.severity, object_name, f"{number} {plural}{sampled}: {rule.problem}", listing)


FOREIGN_KEYS = """
    SELECT quote_ident(child.relname), quote_ident(conname), quote_ident(parent.relname),
        (SELECT array_agg(quote_ident(attname) ORDER BY place)
         FROM unnest(conkey) WITH ORDINALITY AS key (attnum, place)
         JOIN pg_attribute USING (attnum) WHERE attrelid = conrelid),
        (SELECT array_agg(quote_ident(attname) ORDER BY place)
         FROM unnest(confkey) WITH ORDINALITY AS key (attnum, place)
         JOIN pg_attribute USING (attnum) WHERE attrelid = confrelid)
    FROM pg_constraint JOIN pg_class AS child ON child.oid = conrelid JOIN pg_class AS parent ON parent.oid = confrelid
    WHERE contype = 'f' AND conparentid = 0 AND connamespace = current_schema()::regnamespace
    ORDER BY 1, 2
"""


def orphans(examination: Examination) -> Iterator[Finding | Skipped | Unreadable]:
    """keyhub.H040: rows that refer to none, behind a key that says it is valid (its triggers were off for a while)."""
    for table, constraint, parent, columns, parent_columns in examination.rows(FOREIGN_KEYS):
        pairs = zip(columns, parent_columns, strict=True)
        given = " AND ".join(f"child.{column} IS NOT NULL" for column in columns)
        same = " AND ".join(f"parent.{above} = child.{column}" for column, above in pairs)
        rule = DataRule(
            ORPHANS,
            table,
            f"they refer to a row of {parent} that does not exist",
            f"SELECT child.* FROM {{table}} AS child WHERE {given} "
            f"AND NOT EXISTS (SELECT FROM {parent} AS parent WHERE {same})",
            others=(parent,),
        )
        yield from _broken(examination, rule, f"{table}.{constraint}")
