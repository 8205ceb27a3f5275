"""Names of objects in PostgreSQL, which cuts what is longer than it keeps.

https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
"""

LONGEST_NAME_BYTES = 63  # NAMEDATALEN - 1


def with_ending(name: str, ending: str) -> str:
    """A name with an ending: cut in front of it, where PostgreSQL would cut the ending itself."""
    return name.encode()[: LONGEST_NAME_BYTES - len(ending.encode())].decode(errors="ignore") + ending
