"""The SQL that brings one object back to what the catalogue says, in the form that holds no strong lock for long.

Indexes are built CONCURRENTLY, constraints come NOT VALID and are validated afterwards, NOT NULL follows a validated
CHECK: https://www.postgresql.org/docs/current/sql-altertable.html. What cannot be had online says so in a comment.
"""

import re
from collections.abc import Callable

from keyhub.dbhealth.catalogue import CatalogueObject
from keyhub.dbhealth.drift import Difference, Drift

LONGEST_NAME_BYTES = 63  # NAMEDATALEN - 1
RENAMED = {"column": "COLUMN ", "constraint": "CONSTRAINT "}
_KEY = re.compile(r"(PRIMARY KEY|UNIQUE)( NULLS NOT DISTINCT)? (\(.*?\))( INCLUDE \(.*?\))?( DEFERRABLE.*)?")
_GRANT = re.compile(r"(\S+) (.+) to (.+)")


class Mender:
    """Writes the mends of one drift."""

    def __init__(self, drift: Drift):
        self.expected = drift.expected
        self.live = drift.live

    def mend(self, difference: Difference) -> str:
        """One statement or more, each on lines of its own; empty where nobody but a person can tell."""
        item = difference.subject
        if difference.old_name is not None:
            return self._rename(difference)
        write: Callable[[Difference], list[str]] = getattr(self, "_" + item.kind.replace("-", "_"))
        return "\n".join(write(difference))

    def _rename(self, difference: Difference) -> str:
        item, old, new = difference.subject, difference.old_name, difference.subject.name.split("(")[0]
        if item.kind in RENAMED:
            return f"ALTER TABLE {item.table} RENAME {RENAMED[item.kind]}{old} TO {new};"
        if item.kind in ("trigger", "policy"):
            return f"ALTER {item.kind.upper()} {old} ON {item.table} RENAME TO {new};"
        suffix = f"({item.name.partition('(')[2]}" if item.kind == "function" else ""
        return f"ALTER {item.kind.upper()} {old}{suffix} RENAME TO {new};"

    # Tables

    def _table(self, difference: Difference) -> list[str]:
        expected, found = difference.expected, difference.found
        if found is None:
            return self._create_table(expected)
        if expected is None:
            return [f"-- Keep its rows elsewhere first.\nDROP TABLE {found.name};"]
        return [statement for fact in difference.changed for statement in self._table_fact(fact, expected, found.facts)]

    def _create_table(self, table: CatalogueObject) -> list[str]:
        if parent := table.facts.get("partition of"):
            return [f"CREATE TABLE {table.name} PARTITION OF {parent} {table.facts['bound']};"]
        children = [item for item in self.expected.values() if item.table == table.name]
        columns = ",\n    ".join(self._column_definition(item) for item in children if item.kind == "column")
        key = f" PARTITION BY {table.facts['partition key']}" if "partition key" in table.facts else ""
        statements = [
            f"-- Its rows are gone: restore them from a backup.\nCREATE TABLE {table.name} (\n    {columns}\n){key};"
        ]
        for fact in table.facts:
            if fact != "partition key":
                statements += self._table_fact(fact, table, {})
        order = {"index": 0, "constraint": 1, "trigger": 3, "policy": 4, "rule": 4}
        for item in sorted(children, key=lambda item: (order.get(item.kind, 9), _is_foreign_key(item))):
            if item.kind == "constraint" and self._is_told_apart(item):
                continue
            if item.kind == "constraint":
                statements.append(f"ALTER TABLE {table.name} ADD CONSTRAINT {item.name} {item.facts['definition']};")
            elif item.kind == "index" and "constraint" not in item.facts:
                unique = "UNIQUE " if "unique" in item.facts else ""
                statements.append(f"CREATE {unique}INDEX {item.name} ON {table.name} USING {item.facts['definition']};")
            elif item.kind in ("trigger", "policy", "rule"):
                statements += getattr(self, f"_{item.kind}")(Difference(item, None))
        for item in self.expected.values():
            if item.kind == "table" and item.facts.get("partition of") == table.name:
                statements += self._create_table(item)
        grants = (item for item in self.expected.values() if item.name.startswith(f"table {table.name} to "))
        return statements + [statement for item in grants for statement in self._grant(Difference(item, None))]

    def _is_told_apart(self, constraint: CatalogueObject) -> bool:
        target = _target(constraint)
        return bool(target and target != constraint.table and ("table", "", target) not in self.live.objects)

    def _table_fact(self, fact: str, expected: CatalogueObject, found: dict[str, str]) -> list[str]:
        name, wanted = expected.name, expected.facts.get(fact)
        alter = f"ALTER TABLE {name}"
        match fact:
            case "owner":
                return [f"{alter} OWNER TO {wanted or self.live.owner};"]
            case "options":
                return _options(alter, wanted, found.get(fact))
            case "persistence":
                return [f"-- Rewrites the table under ACCESS EXCLUSIVE.\n{alter} SET {(wanted or 'logged').upper()};"]
            case "replica identity":
                return [f"{alter} REPLICA IDENTITY {(wanted or 'default').upper()};"]
            case "row security":
                enable = {"on": "ENABLE", "forced": "ENABLE"}.get(wanted, "DISABLE")
                force = "FORCE" if wanted and "forced" in wanted else "NO FORCE"
                return [f"{alter} {enable} ROW LEVEL SECURITY, {force} ROW LEVEL SECURITY;"]
            case "tablespace":
                return [
                    f"-- Rewrites the table under ACCESS EXCLUSIVE.\n{alter} SET TABLESPACE {wanted or 'pg_default'};"
                ]
            case "access method":
                return [f"-- Rewrites the table under ACCESS EXCLUSIVE.\n{alter} SET ACCESS METHOD {wanted or 'heap'};"]
            case "inherits":
                return [f"{alter} NO INHERIT {parent};" for parent in _listed(found.get(fact))] + [
                    f"{alter} INHERIT {parent};" for parent in _listed(wanted)
                ]
            case "of type":
                return [f"{alter} OF {wanted};" if wanted else f"{alter} NOT OF;"]
            case "partition of" | "bound" | "detach pending":
                return self._attach(fact, expected, found)
        return [f"-- {fact} cannot be changed in place: make the table anew, and copy its rows."]

    def _attach(self, fact: str, expected: CatalogueObject, found: dict[str, str]) -> list[str]:
        name, parent, bound = expected.name, expected.facts.get("partition of"), expected.facts.get("bound")
        if parent is None:
            return [f"ALTER TABLE {found['partition of']} DETACH PARTITION {name};"] if fact == "partition of" else []
        attach = f"ALTER TABLE {parent} ATTACH PARTITION {name} {bound};"
        if "detach pending" in found:
            return (
                [f"ALTER TABLE {parent} DETACH PARTITION {name} FINALIZE;", attach] if fact == "detach pending" else []
            )
        if "partition of" not in found:
            return [attach] if fact == "partition of" else []
        return [f"ALTER TABLE {parent} DETACH PARTITION {name};", attach]

    # Columns

    def _column_definition(self, column: CatalogueObject) -> str:
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

    def _column(self, difference: Difference) -> list[str]:
        expected, found = difference.expected, difference.found
        if expected is None:
            return [f"-- Keep its values elsewhere first.\nALTER TABLE {found.table} DROP COLUMN {found.name};"]
        alter = f"ALTER TABLE {expected.table}"
        if found is None:
            derived = {"default", "identity", "generated"} & set(expected.facts)
            if "not null" not in expected.facts or derived:
                lost = "" if "generated" in expected.facts else "-- Its values are gone: restore them from a backup.\n"
                return [f"{lost}{alter} ADD COLUMN {self._column_definition(expected)};"]
            nullable = CatalogueObject(
                "column", expected.table, expected.name, {k: v for k, v in expected.facts.items() if k != "not null"}
            )
            return [
                f"{alter} ADD COLUMN {self._column_definition(nullable)};",
                "-- Its values are gone: restore them from a backup, then:",
                *self._set_not_null(expected),
            ]
        changed = difference.changed
        if {"generated", "virtual"} & set(changed) and "generated" in expected.facts:
            return self._regenerate(expected)
        order = ["generated", "identity", "default", "type", "collation", "not null"]
        # A default of another type stands in the way of the type.
        statements = []
        if {"type", "collation"} & set(changed) and "default" in found.facts:
            statements.append(f"{alter} ALTER COLUMN {expected.name} DROP DEFAULT;")
            changed = list(dict.fromkeys([*changed, "default"] if "default" in expected.facts else changed))
            order = ["generated", "identity", "type", "collation", "default", "not null"]
        for fact in sorted(changed, key=lambda fact: order.index(fact) if fact in order else len(order)):
            statements += self._column_fact(fact, expected, found)
        return list(dict.fromkeys(statements))

    def _column_fact(self, fact: str, expected: CatalogueObject, found: CatalogueObject) -> list[str]:
        alter = f"ALTER TABLE {expected.table} ALTER COLUMN {expected.name}"
        wanted, is_now = expected.facts.get(fact), found.facts.get(fact)
        match fact:
            case "type" | "collation":
                kind = expected.facts["type"]
                collation = (
                    f" COLLATE {expected.facts.get('collation', _DEFAULT_COLLATION)}" if fact == "collation" else ""
                )
                return [
                    "-- May rewrite the table, and holds ACCESS EXCLUSIVE meanwhile: in a quiet hour.\n"
                    f"{alter} TYPE {kind}{collation} USING {expected.name}::{kind};"
                ]
            case "default":
                return [f"{alter} SET DEFAULT {wanted};" if wanted else f"{alter} DROP DEFAULT;"]
            case "not null":
                return self._not_null(expected, wanted, is_now)
            case "generated" | "virtual":
                return [f"{alter} DROP EXPRESSION;"] if fact == "generated" else []
            case "identity":
                return self._identity(expected, alter, wanted, is_now)
            case "storage":
                return [f"{alter} SET STORAGE {wanted or found.private['_storage']};"]
            case "compression":
                return [f"{alter} SET COMPRESSION {wanted or 'default'};"]
            case "statistics":
                return [f"{alter} SET STATISTICS {wanted or -1};"]
        return _options(alter, wanted, is_now)

    def _not_null(self, column: CatalogueObject, wanted: str | None, is_now: str | None) -> list[str]:
        table = f"ALTER TABLE {column.table}"
        if wanted is None:
            return [f"{table} ALTER COLUMN {column.name} DROP NOT NULL;"]
        if is_now is None:
            return self._set_not_null(column)
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

    def _set_not_null(self, column: CatalogueObject) -> list[str]:
        table, check = f"ALTER TABLE {column.table}", _suffixed(column.name, "_is_not_null")
        return [
            f"{table} ADD CONSTRAINT {check} CHECK ({column.name} IS NOT NULL) NOT VALID;",
            f"{table} VALIDATE CONSTRAINT {check};",
            f"{table} ALTER COLUMN {column.name} SET NOT NULL;",
            f"{table} DROP CONSTRAINT {check};",
        ]

    def _identity(self, column: CatalogueObject, alter: str, wanted: str | None, is_now: str | None) -> list[str]:
        if wanted is None:
            return [f"{alter} DROP IDENTITY;"]
        if is_now is not None:
            return [f"{alter} SET GENERATED {wanted.upper()};"]
        return [
            f"{alter} ADD GENERATED {wanted.upper()} AS IDENTITY;",
            f"SELECT setval(pg_get_serial_sequence('{column.table}', '{column.name}'), "
            f"coalesce(max({column.name}), 0) + 1, false) FROM {column.table};",
        ]

    def _regenerate(self, column: CatalogueObject) -> list[str]:
        """A column cannot become a generated one: it is made anew, and with it what stands on it."""
        word = re.compile(rf"\b{re.escape(column.name)}\b")
        standing = [
            item
            for item in self.expected.values()
            if (item.table == column.table or f" REFERENCES {column.table}(" in item.facts.get("definition", ""))
            and item.kind in ("index", "constraint", "trigger")
            and word.search(item.facts.get("definition", ""))
            and "partition of" not in item.facts
        ]
        statements = [
            "-- Rewrites the table under ACCESS EXCLUSIVE: in a quiet hour.\n"
            f"ALTER TABLE {column.table} DROP COLUMN {column.name} CASCADE, "
            f"ADD COLUMN {self._column_definition(column)};"
        ]
        order = {"index": 0, "constraint": 1, "trigger": 2}
        for item in sorted(standing, key=lambda item: (order[item.kind], _is_foreign_key(item))):
            statements += getattr(self, f"_{item.kind}")(Difference(item, None))
        return statements

    # Constraints

    def _constraint(self, difference: Difference) -> list[str]:
        expected, found = difference.expected, difference.found
        if expected is None:
            return [f"ALTER TABLE {found.table} DROP CONSTRAINT {found.name};"]
        if found is None:
            return self._add_constraint(expected)
        table = f"ALTER TABLE {expected.table}"
        if difference.changed == ["validated"]:
            return [f"{table} VALIDATE CONSTRAINT {expected.name};"]
        if not _is_key(expected):
            definition = expected.facts["definition"]
            return [
                f"{table} DROP CONSTRAINT {expected.name}, ADD CONSTRAINT {expected.name} {definition} NOT VALID;",
                f"{table} VALIDATE CONSTRAINT {expected.name};",
            ]
        # The foreign keys that stand on it come back behind it.
        standing = [
            item
            for item in self.expected.values()
            if item.kind == "constraint" and _target(item) == expected.table and item.key in self.live.objects
        ]
        drops = [f"ALTER TABLE {item.table} DROP CONSTRAINT {item.name};" for item in standing]
        adds = [statement for item in standing for statement in self._add_constraint(item)]
        return [*drops, f"{table} DROP CONSTRAINT {expected.name};", *self._add_constraint(expected), *adds]

    def _add_constraint(self, constraint: CatalogueObject) -> list[str]:
        table, definition = f"ALTER TABLE {constraint.table}", constraint.facts["definition"]
        if definition.startswith("EXCLUDE"):
            return [f"-- Reads the table under a strong lock.\n{table} ADD CONSTRAINT {constraint.name} {definition};"]
        if not _is_key(constraint):
            return [
                f"{table} ADD CONSTRAINT {constraint.name} {definition} NOT VALID;",
                f"{table} VALIDATE CONSTRAINT {constraint.name};",
            ]
        key = _KEY.fullmatch(definition)
        if key is None:
            return [f"-- Reads the table under a strong lock.\n{table} ADD CONSTRAINT {constraint.name} {definition};"]
        index = f"btree {key[3]}{key[4] or ''}{key[2] or ''}"
        partitions = self._partitions(constraint.table)
        if partitions is not None:
            statements = []
            for partition in partitions:
                child = self._child("constraint", partition, constraint.name)
                statements += self._key_on_index(partition, child, key, index)
            return [*statements, f"{table} ADD CONSTRAINT {constraint.name} {definition};"]
        return self._key_on_index(constraint.table, constraint.name, key, index)

    def _key_on_index(self, table: str, name: str, key: re.Match, index: str) -> list[str]:
        existing = self.live.objects.get(("index", table, name))
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

    # Indexes

    def _index(self, difference: Difference) -> list[str]:
        expected, found = difference.expected, difference.found
        if expected is None:
            concurrently = "" if self._partitions(found.table) is not None else "CONCURRENTLY "
            return [f"DROP INDEX {concurrently}{found.name};"]
        if found is None:
            return self._build(expected, expected.name)
        changed = set(difference.changed)
        if changed & {"definition", "unique", "constraint", "partition of"}:
            return self._rebuild(expected, found)
        statements = []
        if changed & {"valid", "ready"}:
            statements += self._make_valid(expected)
        alter = f"ALTER INDEX {expected.name}"
        for fact in difference.changed:
            wanted = expected.facts.get(fact)
            if fact == "options":
                statements += _options(alter, wanted, found.facts.get(fact))
            elif fact == "tablespace":
                statements.append(f"REINDEX (TABLESPACE {wanted or 'pg_default'}) INDEX CONCURRENTLY {expected.name};")
            elif fact == "clustered":
                how = f"CLUSTER ON {expected.name}" if wanted else "SET WITHOUT CLUSTER"
                statements.append(f"ALTER TABLE {expected.table} {how};")
            elif fact == "replica identity":
                how = f"USING INDEX {expected.name}" if wanted else "DEFAULT"
                statements.append(f"ALTER TABLE {expected.table} REPLICA IDENTITY {how};")
        return statements

    def _build(self, index: CatalogueObject, name: str) -> list[str]:
        unique, definition = "UNIQUE " if "unique" in index.facts else "", index.facts.get("definition")
        if definition is None:
            return []  # a constraint's or a parent's
        partitions = self._partitions(index.table)
        if partitions is None:
            return [f"CREATE {unique}INDEX CONCURRENTLY {name} ON {index.table} USING {definition};"]
        return [
            f"CREATE {unique}INDEX {name} ON ONLY {index.table} USING {definition};",
            *self._children(index, partitions, rebuilt=True),
        ]

    def _children(self, index: CatalogueObject, partitions: list[str], rebuilt: bool = False) -> list[str]:
        unique, definition = "UNIQUE " if "unique" in index.facts else "", index.facts["definition"]
        statements = []
        for partition in partitions:
            child = self._child("index", partition, index.name)
            existing = self.live.objects.get(("index", partition, child))
            if existing is not None and existing.facts.get("partition of") == index.name:
                if not rebuilt:
                    continue
                existing = None  # it goes with its parent
            if existing is None or existing.facts.get("definition") != definition:
                statements += [f"DROP INDEX CONCURRENTLY {child};"] if existing is not None else []
                statements.append(f"CREATE {unique}INDEX CONCURRENTLY {child} ON {partition} USING {definition};")
            statements.append(f"ALTER INDEX {index.name} ATTACH PARTITION {child};")
        return statements

    def _rebuild(self, expected: CatalogueObject, found: CatalogueObject) -> list[str]:
        if expected.facts.get("definition") is None:
            return []
        if self._partitions(expected.table) is not None:
            return [f"DROP INDEX {expected.name};", *self._build(expected, expected.name)]
        drop = f"DROP INDEX CONCURRENTLY {expected.name};"
        if "constraint" in found.facts:
            drop = f"ALTER TABLE {expected.table} DROP CONSTRAINT {expected.name};"
        new = _suffixed(expected.name, "_new")
        return [*self._build(expected, new), drop, f"ALTER INDEX {new} RENAME TO {expected.name};"]

    def _make_valid(self, index: CatalogueObject) -> list[str]:
        partitions = self._partitions(index.table)
        if partitions is None:
            return [f"REINDEX INDEX CONCURRENTLY {index.name};"]
        if "definition" not in index.facts:  # a key's
            key = self.expected["constraint", index.table, index.name]
            return [f"ALTER TABLE {index.table} DROP CONSTRAINT {index.name};", *self._add_constraint(key)]
        if children := self._children(index, partitions):
            return children
        return [
            f"-- Holds its locks for as long as the build takes.\nDROP INDEX {index.name};",
            f"CREATE {'UNIQUE ' if 'unique' in index.facts else ''}INDEX {index.name} ON {index.table} "
            f"USING {index.facts['definition']};",
        ]

    def _partitions(self, table: str) -> list[str] | None:
        """The partitions of a table that are here; None where it is no partitioned one."""
        item = self.expected.get(("table", "", table)) or self.live.objects.get(("table", "", table))
        if item is None or "partition key" not in item.facts:
            return None
        return sorted(
            other.name
            for other in self.live.objects.values()
            if other.kind == "table" and other.facts.get("partition of") == table
        )

    def _child(self, kind: str, partition: str, parent: str) -> str:
        """The name of a partition's piece of an index or a constraint of its parent."""
        for item in self.expected.values():
            if item.kind == kind and item.table == partition and item.facts.get("partition of") == parent:
                return item.name
        return _suffixed(partition, f"_{parent}")

    # Triggers, functions and the rest

    def _trigger(self, difference: Difference) -> list[str]:
        expected, found = difference.expected, difference.found
        if expected is None:
            return [f"DROP TRIGGER {found.name} ON {found.table};"]
        statements = []
        if found is None or "definition" in difference.changed:
            definition = expected.facts["definition"]
            if definition.startswith("CONSTRAINT "):
                drop = [f"DROP TRIGGER {expected.name} ON {expected.table};"] if found else []
                statements += [*drop, f"CREATE CONSTRAINT TRIGGER {expected.name} {definition[len('CONSTRAINT ') :]};"]
            else:
                statements.append(f"CREATE OR REPLACE TRIGGER {expected.name} {definition};")
        wanted = expected.facts.get("enabled")
        if wanted != (found.facts.get("enabled") if found else None):
            statements.append(_enable(expected.table, expected.name, wanted))
        return statements

    def _key_trigger(self, difference: Difference) -> list[str]:
        expected, found = difference.expected, difference.found
        if expected is not None and found is not None:
            name = '"' + found.private["_name"] + '"'
            return [
                "-- As a superuser: PostgreSQL lets nobody else touch its own triggers.\n"
                + _enable(expected.table, name, expected.facts.get("enabled"))
            ]
        constraint = difference.subject.name.rpartition(" ")[0]
        for item in self.expected.values():
            if item.kind == "constraint" and item.name == constraint:
                return self._constraint(Difference(item, item))
        return [f"-- PostgreSQL's own, of the constraint {constraint}: make that one anew."]

    def _function(self, difference: Difference) -> list[str]:
        expected, found = difference.expected, difference.found
        kind = difference.subject.kind.upper()
        if expected is None:
            return [f"DROP {kind} {found.name};"]
        statements = []
        if found is None or "definition" in difference.changed:
            statements.append(f"{expected.facts['definition'].rstrip()};")
        if found is not None and "owner" in difference.changed:
            statements.append(f"ALTER {kind} {expected.name} OWNER TO {expected.facts.get('owner', self.live.owner)};")
        return statements

    _procedure = _aggregate = _function

    def _sequence(self, difference: Difference) -> list[str]:
        expected, found = difference.expected, difference.found
        if expected is None:
            return [f"DROP SEQUENCE {found.name};"]
        facts = expected.facts
        options = (
            f"AS {facts['type']} INCREMENT {facts['increment']} MINVALUE {facts['min']} MAXVALUE {facts['max']} "
            f"START {facts['start']} CACHE {facts['cache']} {'' if 'cycle' in facts else 'NO '}CYCLE"
        )
        if found is None:
            return [f"CREATE SEQUENCE {expected.name} {options} OWNED BY {facts.get('owned by', 'NONE')};"]
        changed = set(difference.changed)
        alter = f"ALTER SEQUENCE {expected.name}"
        statements = []
        if changed - {"owner", "persistence", "owned by"}:
            statements.append(f"{alter} {options};")
        if "owned by" in changed:
            statements.append(f"{alter} OWNED BY {facts.get('owned by', 'NONE')};")
        if "persistence" in changed:
            statements.append(f"{alter} SET {facts.get('persistence', 'logged').upper()};")
        if "owner" in changed:
            statements.append(f"{alter} OWNER TO {facts.get('owner', self.live.owner)};")
        return statements

    def _view(self, difference: Difference) -> list[str]:
        expected, found = difference.expected, difference.found
        kind = {"view": "VIEW", "matview": "MATERIALIZED VIEW"}[difference.subject.kind]
        drop = [f"DROP {kind} {found.name};"] if found else []
        return drop + ([f"CREATE {kind} {expected.name} AS\n{expected.facts['definition']}"] if expected else [])

    _matview = _view

    def _foreign_table(self, difference: Difference) -> list[str]:
        return [f"DROP FOREIGN TABLE {difference.subject.name};"]

    def _type(self, difference: Difference) -> list[str]:
        expected, found = difference.expected, difference.found
        if expected is None:
            return [f"DROP {'DOMAIN' if found.facts.get('is') == 'domain' else 'TYPE'} {found.name};"]
        return [f"-- Make the type {expected.name} anew: {expected.line}"]

    def _policy(self, difference: Difference) -> list[str]:
        expected, found = difference.expected, difference.found
        statements = [f"DROP POLICY {found.name} ON {found.table};"] if found else []
        if expected:
            facts = expected.facts
            kind = "RESTRICTIVE" if "permissive" in facts else "PERMISSIVE"
            using = f" USING ({facts['using']})" if "using" in facts else ""
            check = f" WITH CHECK ({facts['check']})" if "check" in facts else ""
            statements.append(
                f"CREATE POLICY {expected.name} ON {expected.table} AS {kind} FOR {facts['command']} "
                f"TO {facts['roles']}{using}{check};"
            )
        return statements

    def _rule(self, difference: Difference) -> list[str]:
        expected, found = difference.expected, difference.found
        if expected is None:
            return [f"DROP RULE {found.name} ON {found.table};"]
        return [expected.facts["definition"].replace("CREATE RULE", "CREATE OR REPLACE RULE")]

    def _statistics(self, difference: Difference) -> list[str]:
        expected, found = difference.expected, difference.found
        drop = [f"DROP STATISTICS {found.name};"] if found else []
        return drop + ([f"CREATE STATISTICS {expected.name} {expected.facts['definition']};"] if expected else [])

    def _extension(self, difference: Difference) -> list[str]:
        verb = "CREATE" if difference.expected else "DROP"
        return [f"{verb} EXTENSION {difference.subject.name};"]

    def _schema(self, difference: Difference) -> list[str]:
        expected, found = difference.expected, difference.found
        if expected is None:
            return [f"-- Keep what is in it elsewhere first.\nDROP SCHEMA {found.name};"]
        if found is None:
            return [f"CREATE SCHEMA {expected.name};"]
        return [f"ALTER SCHEMA {expected.name} OWNER TO {self.live.owner};"]

    def _other(self, difference: Difference) -> list[str]:
        kind = re.match(
            r"operator class|operator family|operator|cast|publication|event trigger|foreign-data wrapper|server|"
            r"language|collation|conversion|text search configuration|text search dictionary",
            difference.subject.name,
        )
        if difference.expected is not None or kind is None:
            return [f"-- {difference.subject.name}: take its statement from the migration that made it."]
        identity = difference.subject.name[kind.end() :].strip()
        return [f"DROP {kind[0].upper().replace('FOREIGN-DATA', 'FOREIGN DATA')} {identity};"]

    def _grant(self, difference: Difference) -> list[str]:
        """Take away what is too much, give what is missing; the difference may lie in either."""
        kind, name, grantee = _GRANT.fullmatch(difference.subject.name).groups()
        grantee = self.live.owner if grantee == "the owner" else grantee
        wanted = difference.expected.facts if difference.expected else {}
        is_now = difference.found.facts if difference.found else {}
        too_much = _privileges(is_now, "extra") - _privileges(wanted, "extra")
        too_much |= _privileges(wanted, "lacks") - _privileges(is_now, "lacks")
        missing = _privileges(wanted, "extra") - _privileges(is_now, "extra")
        missing |= _privileges(is_now, "lacks") - _privileges(wanted, "lacks")
        statements = [self._grant_statement("REVOKE", kind, name, grantee, privilege) for privilege in sorted(too_much)]
        return statements + [
            self._grant_statement("GRANT", kind, name, grantee, privilege) for privilege in sorted(missing)
        ]

    def _grant_statement(self, verb: str, kind: str, name: str, grantee: str, privilege: str) -> str:
        preposition = "FROM" if verb == "REVOKE" else "TO"
        option = privilege.endswith(" with grant option")
        privilege = privilege.removesuffix(" with grant option")
        if kind == "default":
            objects, _, rest = name.partition(" of ")
            role, _, schema = rest.partition(" in schema ")
            place = f" IN SCHEMA {schema}" if schema else ""
            return (
                f"ALTER DEFAULT PRIVILEGES FOR ROLE {role}{place} {verb} {privilege} ON {objects.upper()} "
                f"{preposition} {grantee};"
            )
        target = f"{kind.upper()} {name}"
        if kind == "column":
            table, _, column = name.rpartition(".")
            privilege, target = f"{privilege} ({column})", f"TABLE {table}"
        elif kind == "database":
            target = f"DATABASE {self.live.database}"
        ending = " WITH GRANT OPTION" if option and verb == "GRANT" else ""
        return f"{verb} {privilege} ON {target} {preposition} {grantee}{ending};"


_DEFAULT_COLLATION = 'pg_catalog."default"'


def _privileges(facts: dict[str, str], fact: str) -> set[str]:
    return set(_listed(facts.get(fact)))


def _listed(text: str | None) -> list[str]:
    return text.split(", ") if text else []


def _options(alter: str, wanted: str | None, is_now: str | None) -> list[str]:
    """Set storage parameters as they are wanted, and reset those that are not."""
    names = [option.partition("=")[0] for option in _listed(is_now)]
    kept = [option.partition("=")[0] for option in _listed(wanted)]
    reset = [name for name in names if name not in kept]
    statements = [f"{alter} RESET ({', '.join(reset)});"] if reset else []
    return statements + ([f"{alter} SET ({wanted});"] if wanted else [])


def _enable(table: str, trigger: str, enabled: str | None) -> str:
    how = {None: "ENABLE", "no": "DISABLE", "replica": "ENABLE REPLICA", "always": "ENABLE ALWAYS"}[enabled]
    return f"ALTER TABLE {table} {how} TRIGGER {trigger};"


def _is_key(constraint: CatalogueObject) -> bool:
    return constraint.facts.get("definition", "").startswith(("PRIMARY KEY", "UNIQUE"))


def _is_foreign_key(item: CatalogueObject) -> bool:
    return item.facts.get("definition", "").startswith("FOREIGN KEY")


def _target(constraint: CatalogueObject) -> str | None:
    """The table that a foreign key refers to."""
    match = re.search(r" REFERENCES (\S+)\(", constraint.facts.get("definition", ""))
    return match[1] if match else None


def _suffixed(name: str, suffix: str) -> str:
    """A name for something that stands beside another for a while, as long as PostgreSQL lets it be."""
    bare = name.strip('"')
    cut = bare.encode()[: LONGEST_NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix
    return f'"{cut}"' if name.startswith('"') else cut
