"""Pieces of statements that several kinds of objects share."""

import re

from keyhub.dbhealth.catalogue import CatalogueObject
from keyhub.identifiers import with_ending


def listed(text: str | None) -> list[str]:
    return text.split(", ") if text else []


def options(alter: str, wanted: str | None, is_now: str | None) -> list[str]:
    """Set storage parameters as they are wanted, and reset those that are not."""
    names = [option.partition("=")[0] for option in listed(is_now)]
    kept = [option.partition("=")[0] for option in listed(wanted)]
    reset = [name for name in names if name not in kept]
    statements = [f"{alter} RESET ({', '.join(reset)});"] if reset else []
    return statements + ([f"{alter} SET ({wanted});"] if wanted else [])


def enable(table: str, trigger: str, enabled: str | None) -> str:
    how = {None: "ENABLE", "no": "DISABLE", "replica": "ENABLE REPLICA", "always": "ENABLE ALWAYS"}[enabled]
    return f"ALTER TABLE {table} {how} TRIGGER {trigger};"


def is_key(constraint: CatalogueObject) -> bool:
    return constraint.facts.get("definition", "").startswith(("PRIMARY KEY", "UNIQUE"))


def is_foreign_key(item: CatalogueObject) -> bool:
    return item.facts.get("definition", "").startswith("FOREIGN KEY")


def target(constraint: CatalogueObject) -> str | None:
    """The table that a foreign key refers to."""
    match = re.search(r" REFERENCES (\S+)\(", constraint.facts.get("definition", ""))
    return match[1] if match else None


def suffixed(name: str, suffix: str) -> str:
    """A name for something that stands beside another for a while, as long as PostgreSQL lets it be."""
    cut = with_ending(name.strip('"'), suffix)
    return f'"{cut}"' if name.startswith('"') else cut
