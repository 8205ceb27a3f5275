"""Tokens of SQL text, and a cursor that reads them."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from keyhub import sql_text


class GrammarError(Exception):
    """The text is no SQL that can be read; `offset` tells where."""

    def __init__(self, message: str, offset: int):
        super().__init__(message)
        self.offset = offset


class Token(NamedTuple):
    kind: str
    text: str
    offset: int

    @property
    def word(self) -> str:
        """A key word in capitals; nothing for every other token."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """The identifier as PostgreSQL folds it."""
        if self.kind == "identifier":
            return self.text[1:-1].replace('""', '"')
        return self.text.lower()

    @property
    def is_name(self) -> bool:
        return self.kind in ("word", "identifier")

    @property
    def literal(self) -> str:
        """What a string constant says."""
        if self.kind == "dollar":
            delimiter = self.text[: self.text.index("$", 1) + 1]
            return self.text.removeprefix(delimiter).removesuffix(delimiter)
        return self.text[self.text.index("'") + 1 : -1].replace("''", "'")


END = Token("end of text", "", 0)
OPERATORS = set("+-*/<>=~!@#%^&|`?")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")
UNFINISHED = {"'": "a string", '"': "an identifier", "$": "a dollar-quoted string"}


def tokens(text: str, offset: int = 0) -> Iterator[Token]:
    """Yield the tokens of a text that stands at an offset of a larger one. Raises GrammarError for an open quote."""
    for match in sql_text.tokens(text):
        token = Token(match.lastgroup, match[0], match.start() + offset)
        is_parameter = token.text == "$" and text[match.end() : match.end() + 1].isdigit()
        if token.kind == "other" and token.text in UNFINISHED and not is_parameter:
            raise GrammarError(f"{UNFINISHED[token.text]} is not closed", token.offset)
        yield token


def text_of(tokens: Iterable[Token]) -> str:
    """Write tokens in one line, for messages and comparisons."""
    text = ""
    before = END
    for token in tokens:
        is_operator = before.text in OPERATORS and token.text in OPERATORS and token.offset == before.offset + 1
        calls = token.text == "(" and before.is_name and before.word not in ("AND", "IN", "NOT", "OR")
        if text and not (is_operator or calls or before.text in "(.:" or token.text in "),.;:"):
            text += " "
        text += token.name if token.is_name and not _needs_quotes(token) else token.text
        before = token
    return text


def _needs_quotes(token: Token) -> bool:
    return token.kind == "identifier" and not _PLAIN_NAME.fullmatch(token.name)


def split(tokens: Iterable[Token], separator: str = ",") -> list[list[Token]]:
    """Cut at a separator, a sign or a key word, that stands in no parentheses."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0 and separator in (token.text, token.word):
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


class Cursor:
    """Reads tokens from left to right; past the end it sees END."""

    def __init__(self, tokens: Iterable[Token]):
        self.tokens = list(tokens)
        self.position = 0

    def peek(self, ahead: int = 0) -> Token:
        position = self.position + ahead
        return self.tokens[position] if position < len(self.tokens) else END

    def next(self) -> Token:
        token = self.peek()
        self.position += 1
        return token

    @property
    def at_end(self) -> bool:
        return self.position >= len(self.tokens)

    def at(self, *words: str) -> bool:
        return all(self.peek(ahead).word == word for ahead, word in enumerate(words))

    def take(self, *words: str) -> bool:
        """Step over a sequence of key words if it stands here."""
        found = self.at(*words)
        if found:
            self.position += len(words)
        return found

    def take_any(self, *words: str) -> str:
        """Step over one of some key words, and return it."""
        return self.next().word if self.peek().word in words else ""

    def skip_to(self, *words: str) -> bool:
        """Step forward until a sequence of key words, which stands in no parentheses, has been read."""
        depth = 0
        while not self.at_end:
            if depth == 0 and self.take(*words):
                return True
            text = self.next().text
            depth += (text == "(") - (text == ")")
        return False

    def name(self) -> str:
        """An identifier, without its schema."""
        token = self.next()
        if not token.is_name:
            raise self.unexpected(token)
        while self.peek().text == "." and self.peek(1).is_name:
            self.next()
            token = self.next()
        return token.name

    def group(self) -> list[Token]:
        """What the parentheses that open here hold."""
        opening = self.next()
        if opening.text != "(":
            raise self.unexpected(opening)
        inside: list[Token] = []
        depth = 1
        while not self.at_end:
            token = self.next()
            depth += (token.text == "(") - (token.text == ")")
            if depth == 0:
                return inside
            inside.append(token)
        raise GrammarError("a parenthesis is not closed", opening.offset)

    def names(self) -> tuple[str, ...]:
        """A list of identifiers in parentheses."""
        return tuple(Cursor(part).name() for part in split(self.group()))

    def until(self, *words: str) -> tuple[Token, ...]:
        """The tokens up to one of some key words that stands in no parentheses."""
        taken: list[Token] = []
        depth = 0
        while not self.at_end and not (depth == 0 and self.peek().word in words):
            token = self.next()
            depth += (token.text == "(") - (token.text == ")")
            taken.append(token)
        return tuple(taken)

    def unexpected(self, token: Token) -> GrammarError:
        if token is END:
            return GrammarError("it ends in the middle", self.tokens[-1].offset if self.tokens else 0)
        return GrammarError(f"{token.text!r} is not expected there", token.offset)
