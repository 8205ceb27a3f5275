"""What the runner must know of a statement before it runs it."""

import re

from keyhub import sql_text

_PATIENT = re.compile(
    r"(CREATE( UNIQUE)? INDEX|DROP INDEX|REINDEX( \w+)*) CONCURRENTLY\b"
    r"|ALTER TABLE [^,]*\bVALIDATE CONSTRAINT\b[^,]*(, VALIDATE CONSTRAINT\b[^,]*)*$"
    r"|ALTER TABLE [^,]*\bDETACH PARTITION [^,]*CONCURRENTLY$"
)


def is_patient(statement: str) -> bool:
    """Say whether a statement may wait as long as it needs: while it waits, nobody waits for it.

    CONCURRENTLY waits for old transactions, and a lock_timeout would leave an invalid index behind. VALIDATE CONSTRAINT
    takes SHARE UPDATE EXCLUSIVE, which lets readers and writers go on:
    https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
    """
    parts = sql_text.statements(statement)
    if len(parts) != 1:
        return False
    tokens = sql_text.tokens(parts[0])
    words = " ".join(token[0].upper() for token in tokens if token.lastgroup == "word" or token[0] == ",")
    return _PATIENT.match(words) is not None


def index_built_concurrently(statement: str) -> str | None:
    """The name of the index that a CREATE INDEX CONCURRENTLY builds; None for every other statement."""
    tokens = list(sql_text.tokens(statement))[:9]
    words = [token[0].upper() if token.lastgroup == "word" else token[0] for token in tokens]
    if words[:1] != ["CREATE"] or "CONCURRENTLY" not in words:
        return None
    position = words.index("CONCURRENTLY") + 1
    if words[position : position + 3] == ["IF", "NOT", "EXISTS"]:
        position += 3
    name = tokens[position]
    if name.lastgroup == "identifier":
        return name[0][1:-1].replace('""', '"')
    # CREATE INDEX CONCURRENTLY ON t (…) leaves the name to PostgreSQL.
    return None if words[position] == "ON" else name[0].lower()
