"""Statements with their place, their tokens and what they do."""

from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from django.db.migrations.operations.base import Operation

from keyhub.lintmigrations import grammar
from keyhub.lintmigrations.actions import Action
from keyhub.lintmigrations.findings import LintError, Place
from keyhub.lintmigrations.tokens import GrammarError, Token, tokens


@dataclass(frozen=True)
class Statement:
    text: str
    place: Place
    tokens: tuple[Token, ...]
    actions: tuple[Action, ...]
    operation: Operation | None = None
    """The operation of a migration that wrote it; None for a statement that somebody wrote by hand."""

    def place_at(self, offset: int) -> Place:
        """The place of something within the statement; generated SQL has no lines of its own."""
        if self.operation:
            return self.place
        return Place(self.place.path, self.place.line + self.text.count("\n", 0, offset))

    @cached_property
    def all_tokens(self) -> tuple[Token, ...]:
        """The tokens, and those of the dollar-quoted bodies among them."""
        return tuple(_with_bodies(self.tokens))

    @property
    def head(self) -> str:
        """The first words, for messages: `CREATE TABLE users`."""
        text = " ".join(self.text.partition("(")[0].replace('"', "").split())
        return text if len(text) <= 60 else text[:59].rsplit(" ", 1)[0] + " …"


def _with_bodies(statement: tuple[Token, ...]) -> Iterator[Token]:
    for token in statement:
        yield token
        if token.kind == "dollar":
            try:
                yield from _with_bodies(tuple(tokens(token.literal)))
            except GrammarError:
                continue  # a string constant between dollars, not a body


def read_script(text: str, path: Path, first_line: int = 1) -> list[Statement]:
    """Read the statements of a script. Raises LintError with the file and the line."""
    ends = [position for position, sign in enumerate(text) if sign == "\n"]

    def line(offset: int) -> int:
        return first_line + bisect(ends, offset - 1)

    try:
        parts = _cut(list(tokens(text)))
    except GrammarError as error:
        raise LintError(f"{path}:{line(error.offset)} cannot be read as SQL: {error}.") from error
    statements = []
    for part in parts:
        start, last = part[0].offset, part[-1]
        own = [token._replace(offset=token.offset - start) for token in part]
        try:
            actions = grammar.actions_of(own)
        except GrammarError as error:
            raise LintError(f"{path}:{line(start + error.offset)} cannot be read as SQL: {error}.") from error
        statement_text = text[start : last.offset + len(last.text)]
        statements.append(Statement(statement_text, Place(path, line(start)), tuple(own), tuple(actions)))
    return statements


def read_generated(text: str, place: Place, operation: Operation) -> list[Statement]:
    """Read what an operation of a migration sends."""
    return [
        Statement(statement.text, place, statement.tokens, statement.actions, operation)
        for statement in read_script(text, place.path, place.line)
    ]


def _cut(script: list[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in script:
        if token.kind == "end":
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]
