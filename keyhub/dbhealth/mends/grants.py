"""Grants."""

import re

from keyhub.dbhealth.drift import Difference, Drift
from keyhub.dbhealth.mends import words

_GRANT = re.compile(r"(\S+) (.+) to (.+)")


def grant(difference: Difference, drift: Drift) -> list[str]:
    """Take away what is too much, give what is missing; the difference may lie in either."""
    kind, name, grantee = _GRANT.fullmatch(difference.subject.name).groups()
    grantee = drift.live.owner if grantee == "the owner" else grantee
    wanted = difference.expected.facts if difference.expected else {}
    is_now = difference.found.facts if difference.found else {}
    too_much = _privileges(is_now, "extra") - _privileges(wanted, "extra")
    too_much |= _privileges(wanted, "lacks") - _privileges(is_now, "lacks")
    missing = _privileges(wanted, "extra") - _privileges(is_now, "extra")
    missing |= _privileges(is_now, "lacks") - _privileges(wanted, "lacks")
    statements = [_grant_statement("REVOKE", kind, name, grantee, privilege, drift) for privilege in sorted(too_much)]
    return statements + [
        _grant_statement("GRANT", kind, name, grantee, privilege, drift) for privilege in sorted(missing)
    ]


def _grant_statement(verb: str, kind: str, name: str, grantee: str, privilege: str, drift: Drift) -> str:
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
        target = f"DATABASE {drift.live.database}"
    ending = " WITH GRANT OPTION" if option and verb == "GRANT" else ""
    return f"{verb} {privilege} ON {target} {preposition} {grantee}{ending};"


def _privileges(facts: dict[str, str], fact: str) -> set[str]:
    return set(words.listed(facts.get(fact)))
