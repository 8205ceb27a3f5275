"""Indexes: built CONCURRENTLY, on a partitioned table piece by piece."""

from keyhub.dbhealth.catalogue import CatalogueObject
from keyhub.dbhealth.drift import Difference, Drift
from keyhub.dbhealth.mends import constraints, words
from keyhub.dbhealth.mends.partitions import partitions_of, piece_of


def index(difference: Difference, drift: Drift) -> list[str]:
    expected, found = difference.expected, difference.found
    if expected is None:
        concurrently = "" if partitions_of(found.table, drift) is not None else "CONCURRENTLY "
        return [f"DROP INDEX {concurrently}{found.name};"]
    if found is None:
        return _build(expected, expected.name, drift)
    changed = set(difference.changed)
    if changed & {"definition", "unique", "constraint", "partition of"}:
        return _rebuild(expected, found, drift)
    statements = []
    if changed & {"valid", "ready"}:
        statements += _make_valid(expected, drift)
    alter = f"ALTER INDEX {expected.name}"
    for fact in difference.changed:
        wanted = expected.facts.get(fact)
        if fact == "options":
            statements += words.options(alter, wanted, found.facts.get(fact))
        elif fact == "tablespace":
            statements.append(f"REINDEX (TABLESPACE {wanted or 'pg_default'}) INDEX CONCURRENTLY {expected.name};")
        elif fact == "clustered":
            how = f"CLUSTER ON {expected.name}" if wanted else "SET WITHOUT CLUSTER"
            statements.append(f"ALTER TABLE {expected.table} {how};")
        elif fact == "replica identity":
            how = f"USING INDEX {expected.name}" if wanted else "DEFAULT"
            statements.append(f"ALTER TABLE {expected.table} REPLICA IDENTITY {how};")
    return statements


def _build(index: CatalogueObject, name: str, drift: Drift) -> list[str]:
    unique, definition = "UNIQUE " if "unique" in index.facts else "", index.facts.get("definition")
    if definition is None:
        return []  # a constraint's or a parent's
    partitions = partitions_of(index.table, drift)
    if partitions is None:
        return [f"CREATE {unique}INDEX CONCURRENTLY {name} ON {index.table} USING {definition};"]
    return [
        f"CREATE {unique}INDEX {name} ON ONLY {index.table} USING {definition};",
        *_children(index, partitions, drift, rebuilt=True),
    ]


def _children(index: CatalogueObject, partitions: list[str], drift: Drift, rebuilt: bool = False) -> list[str]:
    unique, definition = "UNIQUE " if "unique" in index.facts else "", index.facts["definition"]
    statements = []
    for partition in partitions:
        child = piece_of("index", partition, index.name, drift)
        existing = drift.live.objects.get(("index", partition, child))
        if existing is not None and existing.facts.get("partition of") == index.name:
            if not rebuilt:
                continue
            existing = None  # it goes with its parent
        if existing is None or existing.facts.get("definition") != definition or "valid" in existing.facts:
            statements += [f"DROP INDEX CONCURRENTLY {child};"] if existing is not None else []
            statements.append(f"CREATE {unique}INDEX CONCURRENTLY {child} ON {partition} USING {definition};")
        statements.append(f"ALTER INDEX {index.name} ATTACH PARTITION {child};")
    return statements


def _rebuild(expected: CatalogueObject, found: CatalogueObject, drift: Drift) -> list[str]:
    if expected.facts.get("definition") is None:
        return []
    if partitions_of(expected.table, drift) is not None:
        return [f"DROP INDEX {expected.name};", *_build(expected, expected.name, drift)]
    drop = f"DROP INDEX CONCURRENTLY {expected.name};"
    if "constraint" in found.facts:
        drop = f"ALTER TABLE {expected.table} DROP CONSTRAINT {expected.name};"
    new = words.suffixed(expected.name, "_new")
    return [*_build(expected, new, drift), drop, f"ALTER INDEX {new} RENAME TO {expected.name};"]


def _make_valid(index: CatalogueObject, drift: Drift) -> list[str]:
    partitions = partitions_of(index.table, drift)
    if partitions is None:
        return [f"REINDEX INDEX CONCURRENTLY {index.name};"]
    if "definition" not in index.facts:  # a key's
        key = drift.expected["constraint", index.table, index.name]
        return [f"ALTER TABLE {index.table} DROP CONSTRAINT {index.name};", *constraints.add_constraint(key, drift)]
    if children := _children(index, partitions, drift):
        return children
    return [
        f"-- Holds its locks for as long as the build takes.\nDROP INDEX {index.name};",
        f"CREATE {'UNIQUE ' if 'unique' in index.facts else ''}INDEX {index.name} ON {index.table} "
        f"USING {index.facts['definition']};",
    ]
