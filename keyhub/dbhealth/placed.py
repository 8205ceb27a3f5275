"""The catalogue as one of two databases has it: what lives there, and triggers that sleep where rows are written."""

import re
from collections.abc import Iterable, Iterator

from keyhub import placement
from keyhub.dbhealth import catalogue_file
from keyhub.dbhealth.catalogue import OF_TABLES, CatalogueObject, Key, Objects
from keyhub.placement import ADMIN, State

_TARGET = re.compile(r" REFERENCES (\S+)\(")


def read_at(place: str, applied: Iterable[str]) -> Objects:
    """The catalogue of a database where only these migrations are applied. Raises CatalogueError."""
    if place != ADMIN:
        return catalogue_file.read_at(applied)
    objects = catalogue_file.read_at(applied, keeps=_lives)
    constraints = {item.name for item in objects.values() if item.kind == "constraint"}
    # Those of keys that refer to a table from elsewhere are as little there as their keys.
    return {
        key: item
        for key, item in objects.items()
        if item.kind != "key-trigger" or item.name.rpartition(" ")[0] in constraints
    }


def _lives(migration: str, item: CatalogueObject) -> bool:
    """Whether the Admin database has what a migration has made that runs there."""
    if migration == catalogue_file.RUNNER:
        return True
    if item.kind in OF_TABLES or item.kind == "table":
        target = _TARGET.search(item.facts.get("definition", "")) if item.kind == "constraint" else None
        tables = {item.table or item.name, *(target.groups() if target else ())}
        return all(placement.lives(ADMIN, table) for table in tables)
    # A grant says in its name of what it is, a sequence whose it is, a function what it takes and gives.
    text = " ".join([item.name, item.facts.get("owned by", ""), item.facts.get("definition", "")])
    return placement.runs(ADMIN, migration.partition(".")[0], text)


def by_state(expected: Objects, live: Objects, place: str, state: State | None) -> Objects:
    """The catalogue with the triggers awake that are to refuse writes in this database, and the others asleep.

    Where a move is about to switch them, or where nobody knows where rows are written, they are right as they are.
    """
    if place != ADMIN and state == State():
        return expected
    changed = {}
    for key, awake in _awake(place, state):
        item, found = expected.get(key), live.get(key)
        if item is None:
            continue
        facts = {name: value for name, value in item.facts.items() if name != "enabled"}
        if awake is None:
            awake = found is None or found.facts.get("enabled") != "no"
        changed[key] = CatalogueObject(*key, facts if awake else {**facts, "enabled": "no"}, item.private)
    return {**expected, **changed}


def _awake(place: str, state: State | None) -> Iterator[tuple[Key, bool | None]]:
    from keyhub.splitadmin.cutover import COPY_TRIGGER, DELETION_TRIGGER
    from keyhub.splitadmin.record import FOLLOWING, PREPARING, UNWINDING

    is_copy = guards = None
    if state is not None and place == ADMIN:
        is_copy = state.home != ADMIN if state.step != PREPARING else None
        guards = state.home == ADMIN if state.step not in (FOLLOWING, UNWINDING) else None
        if state == State():
            guards = False
    elif state is not None:
        is_copy, guards = state.home == ADMIN, False
    for table in placement.admin_tables():
        yield ("trigger", table, COPY_TRIGGER), is_copy
    for table in placement.followed_tables():
        yield ("trigger", table, DELETION_TRIGGER), guards
