"""Tables and partitions."""

from keyhub.dbhealth.catalogue import CatalogueObject
from keyhub.dbhealth.drift import Difference, Drift
from keyhub.dbhealth.mends import columns, grants, others, triggers, words

OTHER_CHILDREN = {"trigger": triggers.trigger, "policy": others.policy, "rule": others.rule}


def table(difference: Difference, drift: Drift) -> list[str]:
    expected, found = difference.expected, difference.found
    if found is None:
        return create_table(expected, drift)
    if expected is None:
        return [f"-- Keep its rows elsewhere first.\nDROP TABLE {found.name};"]
    return [statement for fact in difference.changed for statement in _table_fact(fact, expected, found.facts, drift)]


def create_table(table: CatalogueObject, drift: Drift) -> list[str]:
    children = [item for item in drift.expected.values() if item.table == table.name]
    if parent := table.facts.get("partition of"):
        own = [item for item in children if item.kind == "trigger"]
        return [
            f"CREATE TABLE {table.name} PARTITION OF {parent} {table.facts['bound']};",
            *(statement for item in own for statement in triggers.trigger(Difference(item, None), drift)),
        ]
    body = ",\n    ".join(columns.definition(item) for item in children if item.kind == "column")
    key = f" PARTITION BY {table.facts['partition key']}" if "partition key" in table.facts else ""
    statements = [
        f"-- Its rows are gone: restore them from a backup.\nCREATE TABLE {table.name} (\n    {body}\n){key};"
    ]
    for fact in table.facts:
        if fact != "partition key":
            statements += _table_fact(fact, table, {}, drift)
    order = {"index": 0, "constraint": 1, "trigger": 3, "policy": 4, "rule": 4}
    for item in sorted(children, key=lambda item: (order.get(item.kind, 9), words.is_foreign_key(item))):
        if item.kind == "constraint" and _is_told_apart(item, drift):
            continue
        if item.kind == "constraint":
            statements.append(f"ALTER TABLE {table.name} ADD CONSTRAINT {item.name} {item.facts['definition']};")
        elif item.kind == "index" and "constraint" not in item.facts:
            unique = "UNIQUE " if "unique" in item.facts else ""
            statements.append(f"CREATE {unique}INDEX {item.name} ON {table.name} USING {item.facts['definition']};")
        elif item.kind in OTHER_CHILDREN:
            statements += OTHER_CHILDREN[item.kind](Difference(item, None), drift)
    for item in drift.expected.values():
        if item.kind == "table" and item.facts.get("partition of") == table.name:
            statements += create_table(item, drift)
    for item in drift.expected.values():
        if item.kind == "grant" and item.name.startswith(f"table {table.name} to "):
            statements += grants.grant(Difference(item, None), drift)
    return statements


def _is_told_apart(constraint: CatalogueObject, drift: Drift) -> bool:
    target = words.target(constraint)
    return bool(target and target != constraint.table and ("table", "", target) not in drift.live.objects)


def _table_fact(fact: str, expected: CatalogueObject, found: dict[str, str], drift: Drift) -> list[str]:
    name, wanted = expected.name, expected.facts.get(fact)
    alter = f"ALTER TABLE {name}"
    match fact:
        case "owner":
            return [f"{alter} OWNER TO {wanted or drift.live.owner};"]
        case "options":
            return words.options(alter, wanted, found.get(fact))
        case "persistence":
            return [f"-- Rewrites the table under ACCESS EXCLUSIVE.\n{alter} SET {(wanted or 'logged').upper()};"]
        case "replica identity":
            return [f"{alter} REPLICA IDENTITY {(wanted or 'default').upper()};"]
        case "row security":
            enable = {"on": "ENABLE", "forced": "ENABLE"}.get(wanted, "DISABLE")
            force = "FORCE" if wanted and "forced" in wanted else "NO FORCE"
            return [f"{alter} {enable} ROW LEVEL SECURITY, {force} ROW LEVEL SECURITY;"]
        case "tablespace":
            return [f"-- Rewrites the table under ACCESS EXCLUSIVE.\n{alter} SET TABLESPACE {wanted or 'pg_default'};"]
        case "access method":
            return [f"-- Rewrites the table under ACCESS EXCLUSIVE.\n{alter} SET ACCESS METHOD {wanted or 'heap'};"]
        case "inherits":
            return [f"{alter} NO INHERIT {parent};" for parent in words.listed(found.get(fact))] + [
                f"{alter} INHERIT {parent};" for parent in words.listed(wanted)
            ]
        case "of type":
            return [f"{alter} OF {wanted};" if wanted else f"{alter} NOT OF;"]
        case "partition of" | "bound" | "detach pending":
            return _attach(fact, expected, found, drift)
    return [f"-- {fact} cannot be changed in place: make the table anew, and copy its rows."]


def _attach(fact: str, expected: CatalogueObject, found: dict[str, str], drift: Drift) -> list[str]:
    name, parent, bound = expected.name, expected.facts.get("partition of"), expected.facts.get("bound")
    if parent is None:
        return [f"ALTER TABLE {found['partition of']} DETACH PARTITION {name};"] if fact == "partition of" else []
    attach = f"ALTER TABLE {parent} ATTACH PARTITION {name} {bound};"
    if "detach pending" in found:
        if fact != "detach pending":
            return []
        # DETACH CONCURRENTLY has put the bounds into a constraint of the partition's own.
        drops = [
            f"ALTER TABLE {name} DROP CONSTRAINT {item.name};"
            for key, item in drift.live.objects.items()
            if item.kind == "constraint" and item.table == name and key not in drift.expected
        ]
        return [f"ALTER TABLE {parent} DETACH PARTITION {name} FINALIZE;", attach, *drops]
    if "partition of" not in found:
        return [attach] if fact == "partition of" else []
    detach = f"ALTER TABLE {parent} DETACH PARTITION {name};"
    return [f"-- If it refuses rows of other months: INSERT them INTO {parent}, DELETE them here.\n{detach}", attach]
