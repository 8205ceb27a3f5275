"""The live catalogue against the committed one: what is missing, differs, was never ordered, or bears another name.

A difference that follows from another one, such as the columns of a missing table, is told with that one.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from keyhub.dbhealth import catalogue
from keyhub.dbhealth.catalogue import KINDS, OF_TABLES, Catalogue, CatalogueObject, Objects

# Kinds whose objects can be renamed, and are known again by their facts.
RENAMED_KINDS = ("column", "constraint", "index", "trigger", "sequence", "policy", "statistics")


@dataclass(frozen=True)
class Difference:
    """One object as the code wants it and as it is; `old_name` where it is whole, but bears another name here."""

    expected: CatalogueObject | None
    found: CatalogueObject | None
    old_name: str | None = None

    @property
    def subject(self) -> CatalogueObject:
        return self.expected or self.found

    @property
    def changed(self) -> list[str]:
        """The facts in which the two differ."""
        if self.expected is None or self.found is None:
            return []
        names = {**self.expected.facts, **self.found.facts}
        return [name for name in names if self.expected.facts.get(name) != self.found.facts.get(name)]


@dataclass(frozen=True)
class Drift:
    """The differences, in the order in which they can be mended, and both catalogues after renaming back."""

    differences: list[Difference]
    expected: Objects
    live: Catalogue


def compare(file: Objects, live: Catalogue) -> Drift:
    """Compare a database with the catalogue of the file that fits its version."""
    live, renamed_tables = _tables_renamed_back(file, live)
    expected = catalogue.for_months(file, live.months())
    # What no month has of its own it has from its parent: listed only where it differs.
    for item in list(live.objects.values()):
        if item.kind == "column" and item.key not in expected and (parent := _parent(expected, item.table)):
            column = expected.get(("column", parent, item.name))
            if column is not None:
                expected[item.key] = CatalogueObject("column", item.table, item.name, column.facts)
        if item.kind == "trigger" and (above := item.facts.get("partition of")):
            trigger = expected.get(("trigger", _parent(expected, item.table), above))
            if trigger is not None:
                facts = {name: value for name, value in item.facts.items() if name != "enabled"}
                facts |= {name: value for name, value in trigger.facts.items() if name == "enabled"}
                expected[item.key] = CatalogueObject("trigger", item.table, item.name, facts)
    live, renamed = _renamed_back(expected, live)
    found = live.objects
    differences = [
        Difference(expected.get(key), found.get(key))
        for key in {**expected, **found}
        if expected.get(key) != found.get(key)
    ]
    follows = _Following(expected, found, differences)
    renamed = [difference for difference in renamed if not follows(difference)]
    told = [difference for difference in differences if not follows(difference)]
    return Drift(renamed_tables + renamed + sorted(told, key=_place), expected, live)


def _place(difference: Difference) -> tuple:
    item = difference.subject
    definition = item.facts.get("definition", "")
    # Keys before the foreign keys that refer to them.
    rank = ["PRIMARY", "UNIQUE", "EXCLUDE", "CHECK", "FOREIGN"]
    word = definition.split(" ")[0] if item.kind == "constraint" else ""
    is_partition = "partition of" in item.facts
    kind = KINDS.index(item.kind)
    if difference.expected is None:
        # What is too much goes in the opposite order, behind all else.
        return True, -kind, 0, is_partition, item.table, item.name
    return False, kind, rank.index(word) if word in rank else 0, is_partition, item.table, item.name


def _parent(objects: Objects, table: str) -> str | None:
    item = objects.get(("table", "", table))
    return item.facts.get("partition of") if item else None


# Renamed objects


def _tables_renamed_back(file: Objects, live: Catalogue) -> tuple[Catalogue, list[Difference]]:
    """Know tables and functions again by what they are made of."""
    differences = []
    months = live.months()
    expected = catalogue.for_months(file, months)
    for kind, content in (("table", _columns), ("function", _definition)):
        missing = [item for item in expected.values() if item.kind == kind and item.key not in live.objects]
        extra = [item for item in live.objects.values() if item.kind == kind and item.key not in expected]
        wanted = [(content(expected, item), item) for item in missing]
        for item, other in _pairs(wanted, [(content(live.objects, item), item) for item in extra]):
            old, new = other.name.split("(")[0], item.name.split("(")[0]
            live = _replacing(live, old, new, lambda _: True)
            differences.append(Difference(item, live.objects.get(item.key, other), old_name=old))
    for item in list(live.objects.values()):
        month = _month_of_bound(item)
        if month and month != item.name and f"{_stem(month)}_{catalogue.MONTH}" in {i.name for i in file.values()}:
            if ("table", "", month) in live.objects:
                continue
            live = _replacing(live, item.name, month, lambda i: i.kind in ("table", *OF_TABLES))
            renamed = live.objects["table", "", month]
            differences.append(Difference(renamed, renamed, old_name=item.name))
    return live, differences


def _month_of_bound(item: CatalogueObject) -> str | None:
    """The name that a partition should bear after its bounds, if they are those of a month."""
    start = re.match(r"FOR VALUES FROM \('(\d{4})-(\d\d)-01 ", item.facts.get("bound", ""))
    if item.kind != "table" or start is None:
        return None
    name = f"{item.facts['partition of']}_{start[1]}_{start[2]}"
    return name if catalogue.month_bounds(name) == item.facts["bound"] else None


def _stem(month: str) -> str:
    return month[: -len("_0000_00")]


def _columns(objects: Objects, table: CatalogueObject) -> object:
    if "partition of" in table.facts:
        return table.facts["partition of"], table.facts["bound"]
    columns = {
        item.name: tuple(item.facts.items())
        for item in objects.values()
        if item.kind == "column" and item.table == table.name
    }
    return (tuple(sorted(columns.items())), table.facts.get("partition key")) if columns else None


def _definition(_: Objects, function: CatalogueObject) -> object:
    # Its own name stands in its definition.
    name = function.name.split("(")[0]
    return re.sub(rf"\b{re.escape(name)}\b", "", function.facts.get("definition", ""))


def _renamed_back(expected: Objects, live: Catalogue) -> tuple[Catalogue, list[Difference]]:
    differences = []
    for kind in RENAMED_KINDS:
        missing = [item for item in expected.values() if item.kind == kind and item.key not in live.objects]
        extra = [item for item in live.objects.values() if item.kind == kind and item.key not in expected]
        tables = {item.table for item in missing}
        for table in sorted(tables):
            if table and ("table", "", table) not in live.objects:
                continue
            wanted = [(_facts(item), item) for item in missing if item.table == table]
            for item, other in _pairs(wanted, [(_facts(item), item) for item in extra if item.table == table]):
                old, new = other.name, item.name

                def concerns(i: CatalogueObject, table=table, old=old, kind=kind) -> bool:
                    if kind == "column":
                        return table in (i.table, i.name) or re.search(rf"\b{re.escape(table)}\b", str(i.facts))
                    return i.name == old or i.name.startswith(f"{old} ") or i.facts.get("partition of") == old

                live = _replacing(live, old, new, concerns, table if kind in OF_TABLES else None)
                differences.append(Difference(item, live.objects.get(item.key, other), old_name=old))
    # The index of a constraint is renamed with it.
    of_constraints = {d.expected.key[1:] for d in differences if d.expected.kind == "constraint"}
    return live, [d for d in differences if not (d.expected.kind == "index" and d.expected.key[1:] in of_constraints)]


def _facts(item: CatalogueObject) -> object:
    return tuple(sorted(item.facts.items()))


def _pairs(missing: list[tuple], extra: list[tuple]) -> Iterator[tuple[CatalogueObject, CatalogueObject]]:
    """Pair what is missing with what is too much, where only one of each is made of the same; each is (what of, it)."""
    by_content: dict[object, tuple[list, list]] = {}
    for side, items in enumerate((missing, extra)):
        for content, item in items:
            by_content.setdefault(content, ([], []))[side].append(item)
    for content, (wanted, found) in by_content.items():
        if content is not None and len(wanted) == len(found) == 1:
            yield wanted[0], found[0]


def _replacing(
    live: Catalogue, old: str, new: str, concerns: Callable[[CatalogueObject], bool], table: str | None = None
) -> Catalogue:
    """The catalogue as it would be after renaming back; of objects of the same name in other tables it stays."""
    word = re.compile(rf"(?<![\w\"]){re.escape(old)}(?![\w\"])")

    def replaced(item: CatalogueObject) -> CatalogueObject:
        if not concerns(item):
            return item
        facts = {name: word.sub(new, value) for name, value in item.facts.items()}
        own_name = table is None or item.table == table or item.kind == "key-trigger"
        name = word.sub(new, item.name) if own_name else item.name
        table_name = new if item.table == old and table is None else item.table
        return CatalogueObject(item.kind, table_name, name, facts, item.private)

    items = [replaced(item) for item in live.objects.values()]
    return Catalogue({item.key: item for item in items}, live.owner, live.database)


# What follows from another difference


class _Following:
    """Tells which differences follow from others, and are mended with them."""

    def __init__(self, expected: Objects, found: Objects, differences: list[Difference]):
        self.expected = expected
        self.found = found
        self.by_key = {difference.subject.key: difference for difference in differences}

    def __call__(self, difference: Difference) -> bool:
        item = difference.subject
        rule = getattr(self, "_" + item.kind.replace("-", "_"), None)
        return (item.kind in OF_TABLES and self._of_odd_table(difference)) or bool(rule and rule(difference))

    def _state(self, kind: str, table: str, name: str) -> str | None:
        difference = self.by_key.get((kind, table, name))
        if difference is None:
            return None
        if difference.found is None:
            return "missing"
        return "unexpected" if difference.expected is None else "changed"

    def _of_odd_table(self, difference: Difference) -> bool:
        """Of a table that is missing, unexpected, or not attached to its parent."""
        item = difference.subject
        state = next(
            (s for kind in ("table", "view", "matview", "foreign-table") if (s := self._state(kind, "", item.table))),
            None,
        )
        if state == "changed":
            return bool({"partition of", "detach pending"} & set(self.by_key["table", "", item.table].changed))
        if state == "missing" and item.kind == "constraint":
            # A foreign key to a table that is missing as well can only come after both.
            target = re.search(r" REFERENCES (\S+)\(", item.facts.get("definition", ""))
            return not (target and target[1] != item.table and self._state("table", "", target[1]) == "missing")
        return state in ("missing", "unexpected")

    def _table(self, difference: Difference) -> bool:
        """A partition of a table that is missing."""
        return self._state("table", "", difference.subject.facts.get("partition of", "")) == "missing"

    def _index(self, difference: Difference) -> bool:
        item = difference.subject
        of_constraint = self._state("constraint", item.table, item.name)
        if of_constraint == "unexpected" and difference.expected is not None:
            return False  # an index that was made a constraint
        return of_constraint is not None or self._of_parent("index", difference)

    def _constraint(self, difference: Difference) -> bool:
        item = difference.subject
        index = self.by_key.get(("index", item.table, item.name))
        if difference.expected is None and index is not None and index.expected is not None:
            return True
        parent = _parent(self.expected, item.table)
        if parent and difference.expected is None and self._state("constraint", parent, item.name) == "changed":
            return True  # a CHECK that the partition has from its parent
        return self._of_parent("constraint", difference)

    def _of_parent(self, kind: str, difference: Difference) -> bool:
        """The piece of a partition that follows its parent's."""
        item = difference.subject
        above = item.facts.get("partition of")
        parent = _parent(self.expected, item.table)
        if parent is None:
            return False
        if above is not None:
            return self._state(kind, parent, above) is not None or self._state("constraint", parent, above) is not None
        return False

    def _key_trigger(self, difference: Difference) -> bool:
        if difference.changed:
            return False
        constraint = difference.subject.name.rpartition(" ")[0]
        return any(key[0] == "constraint" and key[2] == constraint for key in self.by_key)

    def _sequence(self, difference: Difference) -> bool:
        table, _, column = difference.subject.facts.get("owned by", "").rpartition(".")
        return bool(self._state("table", "", table) or self._state("column", table, column))

    def _grant(self, difference: Difference) -> bool:
        kind, _, rest = difference.subject.name.partition(" ")
        name = rest.rpartition(" to ")[0]
        table, _, column = name.rpartition(".")
        places = [(kind, "", name), (kind, table, column), ("table", "", table), ("view", "", name)]
        return any(self._state(*place) in ("missing", "unexpected") for place in places)
