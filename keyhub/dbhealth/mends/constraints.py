"""Constraints: added NOT VALID, keys over an index that was built CONCURRENTLY."""

import re

from keyhub.dbhealth.catalogue import CatalogueObject
from keyhub.dbhealth.drift import Difference, Drift
from keyhub.dbhealth.mends import words
from keyhub.dbhealth.mends.partitions import partitions_of, piece_of

_KEY = re.compile(r"(PRIMARY KEY|UNIQUE)( NULLS NOT DISTINCT)? (\(.*?\))( INCLUDE \(.*?\))?( DEFERRABLE.*)?")


def constraint(difference: Difference, drift: Drift) -> list[str]:
    expected, found = difference.expected, difference.found
    if expected is None:
        return [f"ALTER TABLE {found.table} DROP CONSTRAINT {found.name};"]
    if found is None:
        return add_constraint(expected, drift)
    table = f"ALTER TABLE {expected.table}"
    if difference.changed == ["validated"]:
        return [f"{table} VALIDATE CONSTRAINT {expected.name};"]
    if not words.is_key(expected):
        definition = expected.facts["definition"]
        return [
            f"{table} DROP CONSTRAINT {expected.name}, ADD CONSTRAINT {expected.name} {definition} NOT VALID;",
            f"{table} VALIDATE CONSTRAINT {expected.name};",
        ]
    # The foreign keys that stand on it come back behind it.
    standing = [
        item
        for item in drift.expected.values()
        if item.kind == "constraint" and words.target(item) == expected.table and item.key in drift.live.objects
    ]
    drops = [f"ALTER TABLE {item.table} DROP CONSTRAINT {item.name};" for item in standing]
    adds = [statement for item in standing for statement in add_constraint(item, drift)]
    return [*drops, f"{table} DROP CONSTRAINT {expected.name};", *add_constraint(expected, drift), *adds]


def add_constraint(constraint: CatalogueObject, drift: Drift) -> list[str]:
    table, definition = f"ALTER TABLE {constraint.table}", constraint.facts["definition"]
    if definition.startswith("EXCLUDE"):
        return [f"-- Reads the table under a strong lock.\n{table} ADD CONSTRAINT {constraint.name} {definition};"]
    if not words.is_key(constraint):
        return [
            f"{table} ADD CONSTRAINT {constraint.name} {definition} NOT VALID;",
            f"{table} VALIDATE CONSTRAINT {constraint.name};",
        ]
    key = _KEY.fullmatch(definition)
    if key is None:
        return [f"-- Reads the table under a strong lock.\n{table} ADD CONSTRAINT {constraint.name} {definition};"]
    index = f"btree {key[3]}{key[4] or ''}{key[2] or ''}"
    partitions = partitions_of(constraint.table, drift)
    if partitions is not None:
        statements = []
        for partition in partitions:
            child = piece_of("constraint", partition, constraint.name, drift)
            statements += _key_on_index(partition, child, key, index, drift)
        return [*statements, f"{table} ADD CONSTRAINT {constraint.name} {definition};"]
    return _key_on_index(constraint.table, constraint.name, key, index, drift)


def _key_on_index(table: str, name: str, key: re.Match, index: str, drift: Drift) -> list[str]:
    existing = drift.live.objects.get(("index", table, name))
    if existing is not None and "constraint" in existing.facts:
        existing = None  # it goes with the constraint that is being replaced
    statements = []
    if existing is not None and (
        existing.facts.get("definition") != index or set(existing.facts) != {"definition", "unique"}
    ):
        statements.append(f"DROP INDEX CONCURRENTLY {name};")
        existing = None
    if existing is None:
        statements.append(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} USING {index};")
    return [*statements, f"ALTER TABLE {table} ADD CONSTRAINT {name} {key[1]} USING INDEX {name}{key[5] or ''};"]
