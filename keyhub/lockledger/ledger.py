"""The ledger as a file: by migration and direction, each statement with what it locks, rewrites and rebuilds.

    tenancy.0003_groups up
        5f0c2b1a9d3e alter table "group_memberships" add constraint …
            locks users SHARE ROW EXCLUSIVE

A statement is known by the hash of its text, without comments and layout; the text beside it is cut, for people.
"""

import hashlib
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings
from django.db.migrations.operations import RunPython
from django.db.migrations.operations.base import Operation

from keyhub import sql_text
from keyhub.lockledger.modes import MODES, without_weaker
from keyhub.migration_operations import OF_PARTITIONS

HEADER = """\
# What each statement of each migration locks, rewrites and rebuilds of what was there before the migration began.
# Written by `manage.py lockledger` from a real run, the same on PostgreSQL 15 to 18; do not edit it.
"""
NO_WAY_BACK = "no way back"
LONGEST_TITLE = 100

_STEP = re.compile(r"(\w+\.\w+) (up|down)")
_STATEMENT = re.compile(r" {4}(?:([0-9a-f]{12}) (\S.*)|(Python: .+))")
_LOCK = re.compile(rf" {{8}}locks (\S.*?) ({'|'.join(sorted(MODES, key=len, reverse=True))})")
_OTHER_FACT = re.compile(r" {8}(rewrites|rebuilds) (\S.*)")


class LedgerError(Exception):
    """The ledger cannot be read or made; the text is one sentence for people."""


@dataclass
class Facts:
    """Of one statement, or of all that one operation in Python runs: names are quoted as SQL wants them."""

    title: str
    locks: dict[str, set[str]] = field(default_factory=dict)
    rewrites: set[str] = field(default_factory=set)
    rebuilds: set[str] = field(default_factory=set)

    def add_lock(self, table: str, mode: str) -> None:
        self.locks[table] = without_weaker({*self.locks.get(table, ()), mode})

    def lines(self) -> Iterable[str]:
        for table, modes in sorted(self.locks.items()):
            yield from (f"locks {table} {mode}" for mode in sorted(modes))
        yield from (f"rewrites {table}" for table in sorted(self.rewrites))
        yield from (f"rebuilds {index}" for index in sorted(self.rebuilds))


@dataclass
class Step:
    """A migration in one direction; `facts` by the key of the statement, in the order in which they ran."""

    has_way: bool = True
    facts: dict[str, Facts] = field(default_factory=dict)

    def of(self, key: str, title: str) -> Facts:
        return self.facts.setdefault(key, Facts(title))


# By migration ("tenancy.0003_groups") and direction ("up").
Ledger = dict[tuple[str, str], Step]


def statement_key(sql: str) -> str:
    return hashlib.sha256(_normalized(sql).encode()).hexdigest()[:12]


def statement_title(sql: str) -> str:
    text = re.sub(r" (?=[).,])|(?<=[(.]) ", "", " ".join(_normalized(sql).split()))
    return text if len(text) <= LONGEST_TITLE else text[:LONGEST_TITLE].rstrip() + " …"


def _normalized(sql: str) -> str:
    return sql_text.normalized(sql).rstrip(" ;")


def python_name(operation: Operation, backwards: bool) -> str | None:
    """Name the Python that an operation runs; None where all that it does is SQL that is the same everywhere.

    An operation that holds others counts as Python as soon as one of them does.
    """
    if isinstance(operation, RunPython):
        code = operation.reverse_code if backwards else operation.code
        return getattr(code, "__name__", operation.describe())
    if isinstance(operation, OF_PARTITIONS):
        return operation.describe_backwards() if backwards else operation.describe()
    if not operation.reduces_to_sql:
        return operation.describe()
    inner = [python_name(held, backwards) for held in getattr(operation, "database_operations", [])]
    return next(filter(None, inner), None)


def python_key(name: str) -> str:
    return f"Python: {name}"


def default_path() -> Path:
    return Path(getattr(settings, "LOCK_LEDGER", settings.BASE_DIR / "keyhub" / "locks.txt"))


def render(ledger: Ledger) -> str:
    lines = []
    for (migration, direction), step in ledger.items():
        lines.append(f"{migration} {direction}")
        if not step.has_way:
            lines.append(f"    {NO_WAY_BACK}")
        for key, facts in step.facts.items():
            lines.append(f"    {facts.title}" if key == facts.title else f"    {key} {facts.title}")
            lines += [f"        {line}" for line in facts.lines()]
    return HEADER + "".join(f"{line}\n" for line in lines)


def read(path: Path | None = None) -> Ledger:
    """Read the ledger. Raises LedgerError, which names the file and the line."""
    path = path or default_path()
    ledger: Ledger = {}
    step = facts = None
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        if line.startswith("#"):
            continue
        if match := _STEP.fullmatch(line):
            step, facts = ledger.setdefault((match[1], match[2]), Step()), None
        elif step and line.strip() == NO_WAY_BACK:
            step.has_way = False
        elif step and (match := _STATEMENT.fullmatch(line)):
            facts = step.of(match[1] or match[3], match[2] or match[3])
        elif facts and (match := _LOCK.fullmatch(line)):
            facts.add_lock(match[1], match[2])
        elif facts and (match := _OTHER_FACT.fullmatch(line)):
            getattr(facts, match[1]).add(match[2])
        else:
            raise LedgerError(
                f"line {number} of {path.name} is no line of the ledger: {line.strip()!r}. "
                "Run manage.py lockledger, which writes the file anew."
            )
    return ledger


def text_of(path: Path) -> str:
    """The text of a ledger's file. Raises LedgerError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise LedgerError(
            f"the ledger {path.name} cannot be read ({reason}). Run manage.py lockledger, which writes it."
        ) from error


def write(text: str, path: Path) -> None:
    """Write a ledger's file in one step."""
    unfinished = path.with_suffix(".new")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def first_difference(committed: str, measured: str) -> str | None:
    """Tell where two texts of the ledger part: the step, and the line of each; None where they are equal."""
    step = None
    for ours, theirs in itertools.zip_longest(committed.splitlines(), measured.splitlines()):
        if ours != theirs:
            for line in (theirs, ours):
                if line is not None and _STEP.fullmatch(line):
                    step = line
            return f"{step or 'the head'}: the file says {_quoted(ours)}, the run {_quoted(theirs)}"
        if _STEP.fullmatch(ours):
            step = ours
    return None


def _quoted(line: str | None) -> str:
    return "nothing more" if line is None else f'"{line.strip()}"'
