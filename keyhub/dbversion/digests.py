"""The digest of a migration: of its code and its SQL, so that an edit is noticed and a comment is not."""

import ast
import functools
import hashlib
import sys
from pathlib import Path

from django.db.migrations.migration import Migration

from keyhub.migration_operations import RunSQLFile, with_nested
from keyhub.sql_text import normalized


def digest(migration: Migration) -> str:
    """Return the SHA-256 (hex) of what the migration and its SQL files say, without comments and layout.

    Raises OSError where a file cannot be read, SyntaxError where the code cannot be parsed.
    """
    code = Path(sys.modules[type(migration).__module__].__file__).read_text(encoding="utf-8")
    parts = [_of_code(code)]
    for operation in with_nested(migration.operations):
        if isinstance(operation, RunSQLFile):
            for direction in ("up", "down"):
                path = operation.path(migration.app_label, direction)
                parts.append(_of_sql(path.read_text(encoding="utf-8")))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


# A command asks for the same digests twice: when it checks the list of versions, and when it looks at the database.
_of_sql = functools.cache(normalized)


@functools.cache
def _of_code(code: str) -> str:
    parts: list[str] = []
    _add_significant(ast.parse(code), parts)
    return "\0".join(parts)


def _add_significant(node: ast.AST, parts: list[str]) -> None:
    """The syntax tree as text. Not ast.dump(): its text is not the same in every version of Python."""
    parts.append(type(node).__name__)
    for name, value in ast.iter_fields(node):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, ast.AST):
                parts.append(name)
                _add_significant(item, parts)
            elif item is not None and name != "kind":
                parts.append(f"{name}={item!r}")
    parts.append("end")
