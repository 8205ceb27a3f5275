"""What a database is made of: one object per row of pg_catalog that a migration could have made, and their file.

The file holds one line per object, as the newest version has it, the same on PostgreSQL 15 to 18 and in every month:

    column users.email {"not null": "yes", "type": "text"}

A monthly partition stands there once, for all months: `audit_logs_YYYY_MM`.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from django.db.backends.base.base import BaseDatabaseWrapper

QUERY = (Path(__file__).parent / "catalogue.sql").read_text(encoding="utf-8")
# What decides how pg_catalog prints its definitions. JIT would cost more than the query.
SETTINGS = """
    SELECT set_config('search_path', quote_ident(current_schema()), true), set_config('TimeZone', 'UTC', true),
           set_config('DateStyle', 'ISO, MDY', true), set_config('IntervalStyle', 'postgres', true),
           set_config('bytea_output', 'hex', true), set_config('extra_float_digits', '1', true),
           set_config('quote_all_identifiers', 'off', true), set_config('jit', 'off', true)
"""
# In the order in which they can be made.
KINDS = (
    "extension", "schema", "type", "function", "procedure", "aggregate", "sequence", "table", "foreign-table", "column",
    "index", "constraint", "trigger", "key-trigger", "view", "matview", "rule", "policy", "statistics", "grant",
    "other",
)  # fmt: skip
OF_TABLES = frozenset({"column", "index", "constraint", "trigger", "key-trigger", "rule", "policy"})
MONTH = "YYYY_MM"
ITS_MONTH = "its month"

_LINE = re.compile(r"([a-z-]+) (.+?)( \{\".*\})?")
_OF_TABLE = re.compile(r'("(?:[^"]|"")+"|[^".]+)\.(.+)')
_MONTH = re.compile(r"(.+)_(\d{4})_(0[1-9]|1[0-2])")

Facts = dict[str, str]
Key = tuple[str, str, str]


class CatalogueError(Exception):
    """A catalogue cannot be read or written; the text is one sentence for people."""


@dataclass(frozen=True)
class CatalogueObject:
    """One object: names are quoted as SQL wants them; `facts` are what differs from PostgreSQL's defaults.

    `private` facts are of one database alone, such as the number in the name of an internal trigger.
    """

    kind: str
    table: str
    name: str
    facts: Facts = field(default_factory=dict)
    private: Facts = field(default_factory=dict, compare=False)

    @property
    def key(self) -> Key:
        return self.kind, self.table, self.name

    @property
    def identity(self) -> str:
        return f"{self.table}.{self.name}" if self.table else self.name

    @property
    def line(self) -> str:
        facts = json.dumps(self.facts, ensure_ascii=False) if self.facts else ""
        return f"{self.kind} {self.identity} {facts}".rstrip()

    def replacing(self, old: str, new: str) -> "CatalogueObject":
        """The same object where one name is another: its own, its table's, and in its facts."""

        def replaced(text: str) -> str:
            return text.replace(old, new)

        facts = {name: replaced(value) for name, value in self.facts.items()}
        return CatalogueObject(self.kind, replaced(self.table), replaced(self.name), facts, self.private)


Objects = dict[Key, CatalogueObject]


@dataclass
class Catalogue:
    """The objects of a live database; `owner` is the role that has most of its tables. Names are quoted."""

    objects: Objects
    owner: str
    database: str

    def months(self) -> dict[str, str]:
        """The tables that are named like monthly partitions, each with its name in the file."""
        matches = (_MONTH.fullmatch(item.name) for item in self.objects.values() if item.kind == "table")
        return {match[0]: f"{match[1]}_{MONTH}" for match in matches if match}


def month_bounds(partition: str) -> str | None:
    """The bounds that a monthly partition of this name must have, as PostgreSQL prints them in UTC."""
    match = _MONTH.fullmatch(partition)
    if match is None:
        return None
    year, month = int(match[2]), int(match[3])
    next_year, next_month = (year + 1, 1) if month == 12 else (year, month + 1)
    start, end = (f"{y:04}-{m:02}-01 00:00:00+00" for y, m in ((year, month), (next_year, next_month)))
    return f"FOR VALUES FROM ('{start}') TO ('{end}')"


def read(connection: BaseDatabaseWrapper) -> Catalogue:
    """Read the catalogue of the connection's current schema, inside a transaction of the caller's.

    Takes no locks on its tables. Sets the transaction's search_path and time zone.
    """
    with connection.cursor() as cursor:
        cursor.execute(SETTINGS)
        cursor.execute(QUERY)
        rows = cursor.fetchall()
    owner = database = ""
    objects: Objects = {}
    for kind, table, name, facts in rows:
        values = facts if isinstance(facts, dict) else json.loads(facts)
        values = {fact: value for fact, value in values.items() if value not in (None, "")}
        if kind == "owner":
            owner, database = values["_name"], values["_database"]
            continue
        private = {fact: values.pop(fact) for fact in list(values) if fact.startswith("_")}
        item = CatalogueObject(kind, table, name, values, private)
        objects[item.key] = item
    return Catalogue(objects, owner, database)


def templated(catalogue: Catalogue) -> Objects:
    """The objects with the months put into one. Raises CatalogueError where two months differ."""
    months = catalogue.months()
    result: Objects = {}
    for item in catalogue.objects.values():
        partition = item.table or item.name
        if partition in months:
            own = item.facts.get("bound")
            item = item.replacing(partition, months[partition])
            if own and own == month_bounds(partition):
                item.facts["bound"] = ITS_MONTH
            other = result.get(item.key)
            if other is not None and other != item:
                raise CatalogueError(f"{partition} is not like the other months: {item.line}, and not {other.line}.")
        result[item.key] = item
    return result


def for_months(objects: Objects, months: dict[str, str]) -> Objects:
    """The objects of a file, with one set of a monthly partition's for each of the months that there are."""
    of_template: dict[str, list[CatalogueObject]] = {}
    result: Objects = {}
    for item in objects.values():
        partition = item.table or item.name
        if partition.endswith(f"_{MONTH}"):
            of_template.setdefault(partition, []).append(item)
        else:
            result[item.key] = item
    for partition, template in months.items():
        for item in of_template.get(template, []):
            item = item.replacing(template, partition)
            if "bound" in item.facts:
                item.facts["bound"] = month_bounds(partition)
            result[item.key] = item
    return result


# The file


def render(objects: Iterable[CatalogueObject]) -> str:
    def place(item: CatalogueObject) -> tuple:
        of_table = item.kind in OF_TABLES or item.kind == "table"
        return of_table, item.table or item.name if of_table else "", KINDS.index(item.kind), item.name

    return "".join(f"{item.line}\n" for item in sorted(objects, key=place))


def parse_line(line: str, where: str) -> CatalogueObject:
    """Read one line of the file. Raises CatalogueError, which names the place."""
    match = _LINE.fullmatch(line)
    if match is None or match[1] not in KINDS:
        raise CatalogueError(f"{where} is no line of a catalogue: {line!r}. Take the line from the repository.")
    kind, identity = match[1], match[2]
    table, name = "", identity
    if kind in OF_TABLES:
        parts = _OF_TABLE.fullmatch(identity)
        if parts is None:
            raise CatalogueError(f"{where} names no table: {line!r}. Take the line from the repository.")
        table, name = parts[1], parts[2]
    try:
        facts = json.loads(match[3]) if match[3] else {}
    except ValueError:
        raise CatalogueError(f"{where} has no JSON at its end: {line!r}. Take the line from the repository.") from None
    return CatalogueObject(kind, table, name, facts)


def text_of(path: Path) -> str:
    """The text of a file of ours. Raises CatalogueError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise CatalogueError(f"{path.name} cannot be read ({reason}). Take the file from the repository.") from error
