"""Sequences, views, types, policies, rules, statistics, extensions, schemas and the rest."""

import re

from keyhub.dbhealth.drift import Difference, Drift


def sequence(difference: Difference, drift: Drift) -> list[str]:
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
        statements.append(f"{alter} OWNER TO {facts.get('owner', drift.live.owner)};")
    return statements


def view(difference: Difference, drift: Drift) -> list[str]:
    expected, found = difference.expected, difference.found
    kind = {"view": "VIEW", "matview": "MATERIALIZED VIEW"}[difference.subject.kind]
    drop = [f"DROP {kind} {found.name};"] if found else []
    return drop + ([f"CREATE {kind} {expected.name} AS\n{expected.facts['definition']}"] if expected else [])


def foreign_table(difference: Difference, drift: Drift) -> list[str]:
    return [f"DROP FOREIGN TABLE {difference.subject.name};"]


def type_(difference: Difference, drift: Drift) -> list[str]:
    expected, found = difference.expected, difference.found
    if expected is None:
        return [f"DROP {'DOMAIN' if found.facts.get('is') == 'domain' else 'TYPE'} {found.name};"]
    return [f"-- Make the type {expected.name} anew: {expected.line}"]


def policy(difference: Difference, drift: Drift) -> list[str]:
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


def rule(difference: Difference, drift: Drift) -> list[str]:
    expected, found = difference.expected, difference.found
    if expected is None:
        return [f"DROP RULE {found.name} ON {found.table};"]
    return [expected.facts["definition"].replace("CREATE RULE", "CREATE OR REPLACE RULE")]


def statistics(difference: Difference, drift: Drift) -> list[str]:
    expected, found = difference.expected, difference.found
    drop = [f"DROP STATISTICS {found.name};"] if found else []
    return drop + ([f"CREATE STATISTICS {expected.name} {expected.facts['definition']};"] if expected else [])


def extension(difference: Difference, drift: Drift) -> list[str]:
    verb = "CREATE" if difference.expected else "DROP"
    return [f"{verb} EXTENSION {difference.subject.name};"]


def schema(difference: Difference, drift: Drift) -> list[str]:
    expected, found = difference.expected, difference.found
    if expected is None:
        return [f"-- Keep what is in it elsewhere first.\nDROP SCHEMA {found.name};"]
    if found is None:
        return [f"CREATE SCHEMA {expected.name};"]
    return [f"ALTER SCHEMA {expected.name} OWNER TO {drift.live.owner};"]


def other(difference: Difference, drift: Drift) -> list[str]:
    kind = re.match(
        r"operator class|operator family|operator|cast|publication|event trigger|foreign-data wrapper|server|"
        r"language|collation|conversion|text search configuration|text search dictionary",
        difference.subject.name,
    )
    if difference.expected is not None or kind is None:
        return [f"-- {difference.subject.name}: take its statement from the migration that made it."]
    identity = difference.subject.name[kind.end() :].strip()
    return [f"DROP {kind[0].upper().replace('FOREIGN-DATA', 'FOREIGN DATA')} {identity};"]
