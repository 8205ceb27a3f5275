"""Which clock is read, and where none may be."""

from collections.abc import Iterable, Iterator

from keyhub.lintmigrations import actions
from keyhub.lintmigrations.findings import Complaint
from keyhub.lintmigrations.rules.registry import Scene, on_statement
from keyhub.lintmigrations.statements import Statement
from keyhub.lintmigrations.tokens import Token

# https://www.postgresql.org/docs/current/functions-datetime.html#FUNCTIONS-DATETIME-CURRENT
TRANSACTION_WORDS = {"CURRENT_TIMESTAMP", "CURRENT_TIME", "CURRENT_DATE", "LOCALTIMESTAMP", "LOCALTIME"}
TRANSACTION_FUNCTIONS = {"now", "transaction_timestamp"}
OTHER_FUNCTIONS = {"statement_timestamp", "clock_timestamp", "timeofday", "age"}


@on_statement("keyhub.M020")
def clock_in_index(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """Only what never changes may stand in an index: https://www.postgresql.org/docs/current/sql-createindex.html#id-1.9.3.69.8"""
    for action in statement.actions:
        if not isinstance(action, actions.CreateIndex):
            continue
        for part, tokens in (("predicate", action.predicate), ("key", action.expressions)):
            clock = _clock(tokens, TRANSACTION_FUNCTIONS | OTHER_FUNCTIONS)
            if clock:
                yield Complaint(
                    statement.place,
                    f"{scene.title} reads the clock, {clock}, in the {part} of {action.index or 'an index'}: "
                    "PostgreSQL refuses it, since an index does not change with time.",
                    "Leave the clock out of the index, index the time as a column, and compare in the query.",
                )


@on_statement("keyhub.M032")
def clock_of_the_transaction(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """https://www.postgresql.org/docs/current/functions-datetime.html#FUNCTIONS-DATETIME-CURRENT"""
    if any(isinstance(action, actions.CreateIndex) for action in statement.actions):
        return
    clock = _clock(statement.all_tokens, TRANSACTION_FUNCTIONS)
    if clock:
        yield Complaint(
            statement.place,
            f"{scene.title} reads {clock} in {statement.head!r}, which stands still from the transaction's start: all "
            "rows of a long one bear the same time, and what has expired meanwhile still passes.",
            "Write statement_timestamp() instead.",
        )


def _clock(tokens: Iterable[Token], functions: set[str]) -> str:
    tokens = list(tokens)
    for position, token in enumerate(tokens):
        if token.word in TRANSACTION_WORDS:
            return token.word
        after = tokens[position + 1].text if position + 1 < len(tokens) else ""
        if token.is_name and token.name in functions and after == "(":
            return f"{token.name}()"
    return ""
