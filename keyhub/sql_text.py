"""SQL text cut into tokens and statements, by the lexical rules of PostgreSQL.

https://www.postgresql.org/docs/current/sql-syntax-lexical.html. Not covered: U&"…" with UESCAPE, and functions with a
body of BEGIN ATOMIC, whose semicolons are taken for ends of statements.
"""

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
      (?P<comment>   --[^\n]* | /\* )
    | (?P<space>     \s+ )
    | (?P<string>    [eE]'(?:[^'\\]|\\.|'')*' | (?:[bBxXnN]|[uU]&)?'(?:[^']|'')*' )
    | (?P<identifier> "(?:[^"]|"")*" )
    | (?P<dollar>    (?P<delimiter>\$(?:[^\W\d]\w*)?\$).*?(?P=delimiter) )
    | (?P<word>      [^\W\d][\w$]* )
    | (?P<number>    \d[\w.]* )
    | (?P<end>       ; )
    | (?P<other>     . )
    """,
    re.VERBOSE | re.DOTALL,
)


def tokens(text: str) -> Iterator[re.Match]:
    """Yield a match for every token that is neither white space nor a comment.

    Its `lastgroup` is the kind: string, identifier (a quoted one), dollar (a dollar-quoted string), word, number, end
    (a semicolon) or other.
    """
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        position = match.end()
        if match[0] == "/*":
            position = _end_of_block_comment(text, position)
        elif match.lastgroup not in ("comment", "space"):
            yield match


def normalized(text: str) -> str:
    """The text without comments and layout: two texts are the same SQL if their normalized forms are equal."""
    return " ".join(token[0].lower() if token.lastgroup == "word" else token[0] for token in tokens(text))


def statements(text: str) -> list[str]:
    """Cut a script into its statements, each as it was written, without the semicolon and the comments around it."""
    found: list[str] = []
    first = last = None
    for token in tokens(text):
        if token.lastgroup != "end":
            first, last = first or token, token
        elif first:
            found.append(text[first.start() : last.end()])
            first = None
    if first:
        found.append(text[first.start() : last.end()])
    return found


def _end_of_block_comment(text: str, position: int) -> int:
    """Block comments nest in PostgreSQL; an unfinished one goes to the end of the text."""
    depth = 1
    while depth:
        match = re.compile(r"/\*|\*/").search(text, position)
        if match is None:
            return len(text)
        depth += 1 if match[0] == "/*" else -1
        position = match.end()
    return position
