"""Triggers and functions."""

from keyhub.dbhealth.drift import Difference, Drift
from keyhub.dbhealth.mends import constraints, words


def trigger(difference: Difference, drift: Drift) -> list[str]:
    expected, found = difference.expected, difference.found
    if expected is None:
        return [f"DROP TRIGGER {found.name} ON {found.table};"]
    statements = []
    if found is None or "definition" in difference.changed:
        definition = expected.facts["definition"]
        drop = [f"DROP TRIGGER {expected.name} ON {expected.table};"] if found else []
        if definition.startswith("CONSTRAINT "):
            statements += [*drop, f"CREATE CONSTRAINT TRIGGER {expected.name} {definition[len('CONSTRAINT ') :]};"]
        else:
            # One of rows has children in the partitions, which only go with it.
            was_of_rows = found is not None and "FOR EACH ROW" in found.facts["definition"]
            statements += drop if was_of_rows and "FOR EACH ROW" not in definition else []
            statements.append(f"CREATE OR REPLACE TRIGGER {expected.name} {definition};")
    wanted = expected.facts.get("enabled")
    if wanted != (found.facts.get("enabled") if found else None):
        statements.append(words.enable(expected.table, expected.name, wanted))
    return statements


def key_trigger(difference: Difference, drift: Drift) -> list[str]:
    expected, found = difference.expected, difference.found
    if expected is not None and found is not None:
        name = '"' + found.private["_name"] + '"'
        return [
            "-- As a superuser: PostgreSQL lets nobody else touch its own triggers.\n"
            + words.enable(expected.table, name, expected.facts.get("enabled"))
        ]
    constraint = difference.subject.name.rpartition(" ")[0]
    for item in drift.expected.values():
        if item.kind == "constraint" and item.name == constraint:
            return constraints.constraint(Difference(item, item), drift)
    return [f"-- PostgreSQL's own, of the constraint {constraint}: make that one anew."]


def function(difference: Difference, drift: Drift) -> list[str]:
    expected, found = difference.expected, difference.found
    kind = difference.subject.kind.upper()
    if expected is None:
        return [f"DROP {kind} {found.name};"]
    statements = []
    if found is None or "definition" in difference.changed:
        statements.append(f"{expected.facts['definition'].rstrip()};")
    if found is not None and "owner" in difference.changed:
        statements.append(f"ALTER {kind} {expected.name} OWNER TO {expected.facts.get('owner', drift.live.owner)};")
    return statements
