"""Drift as findings: keyhub.H002 to H004 and H009 to H018, one id for each kind of object."""

from collections.abc import Iterator

from keyhub import placement
from keyhub.adopt.record import LEFT_BEHIND
from keyhub.dbhealth import catalogue, catalogue_file, placed
from keyhub.dbhealth.drift import Difference, compare
from keyhub.dbhealth.examination import Examination, is_made_at_run_time
from keyhub.dbhealth.findings import Finding, Severity
from keyhub.dbhealth.mends import mend

STALE = "keyhub.H018"
IDS = {
    "table": "keyhub.H002",
    "index": "keyhub.H003",
    "constraint": "keyhub.H004",
    "column": "keyhub.H009",
    "trigger": "keyhub.H010",
    "key-trigger": "keyhub.H010",
    "function": "keyhub.H011",
    "procedure": "keyhub.H011",
    "aggregate": "keyhub.H011",
    "sequence": "keyhub.H012",
    "partition": "keyhub.H013",
    "policy": "keyhub.H014",
    "rule": "keyhub.H014",
    "grant": "keyhub.H015",
    "owner": "keyhub.H015",
    "extension": "keyhub.H016",
    "view": "keyhub.H017",
    "matview": "keyhub.H017",
    "foreign-table": "keyhub.H017",
    "type": "keyhub.H017",
    "statistics": "keyhub.H017",
    "schema": "keyhub.H017",
    "other": "keyhub.H017",
}
# What nobody ordered, and changes neither what is written nor who may read it.
HARMLESS_EXTRAS = {"table", "view", "matview", "foreign-table", "type", "statistics", "schema", "extension", "sequence"}
# What costs time or room, and no row.
HARMLESS_FACTS = {"options", "storage", "compression", "statistics", "clustered", "tablespace"}
# What a fact means to those who use the database, where its words alone do not tell.
MEANINGS = {
    (
        "index",
        "valid",
        "no",
    ): "the index is invalid: queries do not use it, and a unique one does not keep duplicates out",
    ("index", "ready", "no"): "the index is not ready: new rows are not in it",
    ("constraint", "validated", "no"): "the constraint is not validated: rows from before it may break it",
    ("constraint", "enforced", "no"): "the constraint is not enforced: rows may break it",
    ("trigger", "enabled", "no"): "the trigger is disabled: it does nothing",
    ("trigger", "enabled", "replica"): "the trigger does nothing but in a replication session",
    ("key-trigger", "enabled", "no"): "the trigger that keeps this key is disabled: rows may break the key",
    ("key-trigger", "enabled", "replica"): "the trigger that keeps this key does nothing but in a replication session",
    ("table", "persistence", "unlogged"): "the table is unlogged: a crash empties it, and no standby has it",
    ("table", "detach pending", "yes"): "the partition's detaching was interrupted: queries see it and do not",
    ("table", "partition of", None): "the partition is detached: its rows are not seen any more",
    ("column", "not null", None): "NULL is let in",
}
# Facts that go without saying beside another one.
FOLLOWS = {"ready": "valid", "bound": "partition of"}
LONGEST_SHOWN = 100


def drift(examination: Examination) -> Iterator[Finding]:
    """Compare the live catalogue with the committed one, as of the migrations that are applied."""
    live = catalogue.read(examination.connection)
    wanted = placed.by_state(_expected(examination), live.objects, examination.place, examination.state)
    unlisted = catalogue_file.unlisted(examination.migrations)
    if unlisted:
        yield Finding(
            STALE, Severity.CRITICAL, catalogue_file.catalogue_path().name,
            f"the catalogue does not know {', '.join(unlisted)}, so drift is measured without it",
            "manage.py dbhealth --write-catalogue, and commit the files",
        )  # fmt: skip
    found = compare(wanted, live)
    applied = examination.records
    pending = [] if applied is None else [".".join(key) for key in examination.migrations if key not in applied]
    makers = catalogue_file.makers(pending)
    # keyhub.H008 tells of them.
    let_pass = {("table", "", table) for table in placement.tables() if not placement.lives(examination.place, table)}
    if examination.split:
        let_pass.add(("grant", "", f"database this to {live.owner}"))  # who subscribes needs it
    for difference in found.differences:
        if difference.expected is None and (
            difference.subject.key in LEFT_BEHIND
            or is_made_at_run_time(difference.subject.identity)
            or difference.subject.key in let_pass
        ):
            continue
        if difference.subject.kind in ("index", "constraint", "column"):
            examination.drifted_tables.add(difference.subject.table)
        maker = makers.get(difference.subject.key) if difference.expected is None else None
        yield Finding(
            _id(difference),
            _severity(difference),
            _object(difference),
            f"{maker} makes it, and is not recorded as applied" if maker else _problem(difference),
            _record(maker) if maker else mend(difference, found),
            expected=difference.expected.line if difference.expected else None,
            found=difference.found.line if difference.found and not difference.old_name else difference.old_name,
        )


def _record(migration: str) -> str:
    app, _, name = migration.partition(".")
    return f"look whether all of it is here; then manage.py migrate {app} {name} --fake"


def _expected(examination: Examination) -> catalogue.Objects:
    records, migrations = examination.records, examination.migrations
    if records is not None and not all(key in records for key in migrations):
        examination.report.notes.append("drift is measured against the migrations that are applied")
    elif examination.place != placement.ADMIN:
        return catalogue_file.read_newest()
    applied = migrations if records is None else records
    return placed.read_at(examination.place, map(".".join, applied))


def _id(difference: Difference) -> str:
    item, changed = difference.subject, set(difference.changed)
    if changed and changed <= {"owner"}:
        return IDS["owner"]
    if item.kind == "table" and changed & {"row security"}:
        return IDS["policy"]
    if item.kind == "table" and "partition of" in item.facts:
        return IDS["partition"]
    return IDS[item.kind]


def _severity(difference: Difference) -> Severity:
    item, changed = difference.subject, set(difference.changed)
    if difference.old_name is not None:
        # Code speaks of columns, tables and functions by their names.
        return Severity.CRITICAL if item.kind in ("table", "column", "function") else Severity.WARNING
    if difference.expected is None:
        harmless = item.kind in HARMLESS_EXTRAS or (item.kind == "index" and "unique" not in item.facts)
        harmless |= item.kind == "grant" and not item.name.endswith(" to PUBLIC")
        harmless |= item.kind == "column" and ("not null" not in item.facts or "default" in item.facts)
        harmless |= item.kind in ("function", "procedure", "aggregate", "other")
        return Severity.WARNING if harmless else Severity.CRITICAL
    return Severity.WARNING if changed and changed <= HARMLESS_FACTS else Severity.CRITICAL


def _object(difference: Difference) -> str:
    item = difference.subject
    if item.kind == "key-trigger":
        # One of PostgreSQL's own goes by the name of its key.
        return f"{item.table}.{item.name}"
    return item.identity


def _problem(difference: Difference) -> str:
    item, kind = difference.subject, difference.subject.kind.replace("-", " ")
    if difference.old_name is not None:
        return f"the {kind} is called {difference.old_name} here"
    if difference.found is None:
        return f"the {kind} does not exist, although an applied migration makes it"
    if difference.expected is None:
        return f"no migration made this {kind}{_short(item.facts)}"
    changed = [fact for fact in difference.changed if FOLLOWS.get(fact) not in difference.changed]
    return "; ".join(
        _fact_problem(item.kind, fact, difference.expected.facts.get(fact), difference.found.facts.get(fact))
        for fact in changed
    )


def _fact_problem(kind: str, fact: str, expected: str | None, found: str | None) -> str:
    if (kind, fact, expected) == ("trigger", "enabled", "no"):
        return "the trigger is enabled, and must not be in this database"
    meaning = MEANINGS.get((kind, fact, found))
    if meaning is not None:
        return meaning
    if fact == "owner":
        return f"it belongs to {found or 'the owner of the tables'}, not to {expected or 'the owner of the tables'}"
    if max(len(expected or ""), len(found or "")) > LONGEST_SHOWN or "\n" in f"{expected}{found}":
        return f"its {fact} is not what the code says"
    return f"its {fact} is {found or 'not there'}, and should be {expected or 'not there'}"


def _short(facts: dict[str, str]) -> str:
    text = ", ".join(f"{name} {value}" for name, value in facts.items() if "\n" not in value)
    return f" ({text})" if text and len(text) <= LONGEST_SHOWN else ""
