"""Columns."""

import re

from keyhub.dbhealth.catalogue import CatalogueObject
from keyhub.dbhealth.drift import Difference, Drift
from keyhub.dbhealth.mends import constraints, indexes, triggers, words

_DEFAULT_COLLATION = 'pg_catalog."default"'


def definition(column: CatalogueObject) -> str:
    facts = column.facts
    parts = [column.name, facts["type"]]
    if "collation" in facts:
        parts.append(f"COLLATE {facts['collation']}")
    if "generated" in facts:
        parts.append(f"GENERATED ALWAYS AS ({facts['generated']}) {'VIRTUAL' if 'virtual' in facts else 'STORED'}")
    if "identity" in facts:
        parts.append(f"GENERATED {facts['identity'].upper()} AS IDENTITY")
    if "default" in facts:
        parts.append(f"DEFAULT {facts['default']}")
    if "not null" in facts:
        parts.append("NOT NULL")
    return " ".join(parts)


def column(difference: Difference, drift: Drift) -> list[str]:
    expected, found = difference.expected, difference.found
    if expected is None:
        return [f"-- Keep its values elsewhere first.\nALTER TABLE {found.table} DROP COLUMN {found.name};"]
    alter = f"ALTER TABLE {expected.table}"
    if found is None:
        derived = {"default", "identity", "generated"} & set(expected.facts)
        if "not null" not in expected.facts or derived:
            lost = "" if "generated" in expected.facts else "-- Its values are gone: restore them from a backup.\n"
            return [f"{lost}{alter} ADD COLUMN {definition(expected)};"]
        nullable = CatalogueObject(
            "column", expected.table, expected.name, {k: v for k, v in expected.facts.items() if k != "not null"}
        )
        return [
            f"{alter} ADD COLUMN {definition(nullable)};",
            "-- Its values are gone: restore them from a backup, then:",
            *_set_not_null(expected),
        ]
    changed = difference.changed
    if {"generated", "virtual"} & set(changed) and "generated" in expected.facts:
        return _regenerate(expected, drift)
    order = ["generated", "identity", "default", "type", "collation", "not null"]
    # A default of another type stands in the way of the type.
    statements = []
    if {"type", "collation"} & set(changed) and "default" in found.facts:
        statements.append(f"{alter} ALTER COLUMN {expected.name} DROP DEFAULT;")
        changed = list(dict.fromkeys([*changed, "default"] if "default" in expected.facts else changed))
        order = ["generated", "identity", "type", "collation", "default", "not null"]
    for fact in sorted(changed, key=lambda fact: order.index(fact) if fact in order else len(order)):
        statements += _column_fact(fact, expected, found)
    return list(dict.fromkeys(statements))


def _column_fact(fact: str, expected: CatalogueObject, found: CatalogueObject) -> list[str]:
    alter = f"ALTER TABLE {expected.table} ALTER COLUMN {expected.name}"
    wanted, is_now = expected.facts.get(fact), found.facts.get(fact)
    match fact:
        case "type" | "collation":
            kind = expected.facts["type"]
            collation = f" COLLATE {expected.facts.get('collation', _DEFAULT_COLLATION)}" if fact == "collation" else ""
            return [
                "-- May rewrite the table, and holds ACCESS EXCLUSIVE meanwhile: in a quiet hour.\n"
                f"{alter} TYPE {kind}{collation} USING {expected.name}::{kind};"
            ]
        case "default":
            return [f"{alter} SET DEFAULT {wanted};" if wanted else f"{alter} DROP DEFAULT;"]
        case "not null":
            return _not_null(expected, wanted, is_now)
        case "generated" | "virtual":
            return [f"{alter} DROP EXPRESSION;"] if fact == "generated" else []
        case "identity":
            return _identity(expected, alter, wanted, is_now)
        case "storage":
            return [f"{alter} SET STORAGE {wanted or found.private['_storage']};"]
        case "compression":
            return [f"{alter} SET COMPRESSION {wanted or 'default'};"]
        case "statistics":
            return [f"{alter} SET STATISTICS {wanted or -1};"]
    return words.options(alter, wanted, is_now)


def _not_null(column: CatalogueObject, wanted: str | None, is_now: str | None) -> list[str]:
    table = f"ALTER TABLE {column.table}"
    if wanted is None:
        return [f"{table} ALTER COLUMN {column.name} DROP NOT NULL;"]
    if is_now is None:
        return _set_not_null(column)
    # PostgreSQL 18: a constraint of its own.
    usual = f"{column.table}_{column.name}_not_null"
    name = re.search(r"named (.*)$", is_now)
    statements = []
    if "no inherit" in is_now:
        statements.append(f"{table} ALTER CONSTRAINT {name[1] if name else usual} INHERIT;")
    if "not valid" in is_now:
        statements.append(f"{table} VALIDATE CONSTRAINT {name[1] if name else usual};")
    if name:
        statements.append(f"{table} RENAME CONSTRAINT {name[1]} TO {usual};")
    return statements


def _set_not_null(column: CatalogueObject) -> list[str]:
    table, check = f"ALTER TABLE {column.table}", words.suffixed(column.name, "_is_not_null")
    return [
        f"{table} ADD CONSTRAINT {check} CHECK ({column.name} IS NOT NULL) NOT VALID;",
        f"{table} VALIDATE CONSTRAINT {check};",
        f"{table} ALTER COLUMN {column.name} SET NOT NULL;",
        f"{table} DROP CONSTRAINT {check};",
    ]


def _identity(column: CatalogueObject, alter: str, wanted: str | None, is_now: str | None) -> list[str]:
    if wanted is None:
        return [f"{alter} DROP IDENTITY;"]
    if is_now is not None:
        return [f"{alter} SET GENERATED {wanted.upper()};"]
    return [
        f"{alter} ADD GENERATED {wanted.upper()} AS IDENTITY;",
        f"SELECT setval(pg_get_serial_sequence('{column.table}', '{column.name}'), "
        f"coalesce(max({column.name}), 0) + 1, false) FROM {column.table};",
    ]


def _regenerate(column: CatalogueObject, drift: Drift) -> list[str]:
    """A column cannot become a generated one: it is made anew, and with it what stands on it."""
    word = re.compile(rf"\b{re.escape(column.name)}\b")
    standing = [
        item
        for item in drift.expected.values()
        if (item.table == column.table or f" REFERENCES {column.table}(" in item.facts.get("definition", ""))
        and item.kind in ("index", "constraint", "trigger")
        and word.search(item.facts.get("definition", ""))
        and "partition of" not in item.facts
    ]
    statements = [
        "-- Rewrites the table under ACCESS EXCLUSIVE: in a quiet hour.\n"
        f"ALTER TABLE {column.table} DROP COLUMN {column.name} CASCADE, "
        f"ADD COLUMN {definition(column)};"
    ]
    writers = {"index": indexes.index, "constraint": constraints.constraint, "trigger": triggers.trigger}
    order = list(writers)
    for item in sorted(standing, key=lambda item: (order.index(item.kind), words.is_foreign_key(item))):
        statements += writers[item.kind](Difference(item, None), drift)
    return statements
