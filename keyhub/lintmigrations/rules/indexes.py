"""Indexes that are missing, and indexes that nobody needs: https://www.postgresql.org/docs/current/indexes.html"""

from collections.abc import Iterator

from keyhub.lintmigrations import actions
from keyhub.lintmigrations.catalogue import ForeignKey, Index, Table
from keyhub.lintmigrations.findings import Complaint
from keyhub.lintmigrations.rules.registry import History, Scene, on_history, on_statement
from keyhub.lintmigrations.statements import Statement
from keyhub.lintmigrations.tokens import Token, split


@on_history("keyhub.M029")
def key_without_index(history: History) -> Iterator[tuple[int, Complaint]]:
    """Deleting reads the referring table, whose indexes are known if it or the columns were made here.

    https://www.postgresql.org/docs/current/ddl-constraints.html#DDL-CONSTRAINTS-FK
    """
    for table in history.catalogue.tables.values():
        for key in table.foreign_keys:
            made_here = table.place or all(column in table.columns for column in key.columns)
            if not made_here or any(_serves(index, key) for index in table.indexes):
                continue
            columns = ", ".join(key.columns)
            name = f"idx_{table.name}_{'_'.join(key.columns)}"
            concurrently = "" if table.born == key.moment else " CONCURRENTLY"
            yield (
                key.moment,
                Complaint(
                    key.place,
                    f"{history.title(key.moment)} makes {table.name} ({columns}) refer to {key.references} without an "
                    f"index: whoever deletes a row of {key.references} reads all of {table.name}.",
                    f"CREATE INDEX{concurrently} {name} ON {table.name} ({columns});",
                ),
            )


def _serves(index: Index, key: ForeignKey) -> bool:
    """Say whether an index begins with the columns of a key, in any order, and holds all rows that refer."""
    if index.method not in ("btree", "hash"):
        return False
    plain = {f"{column} is not null" for column in key.columns}
    if index.predicate and index.predicate.strip("( )") not in plain:
        return False
    first = [words.split(" ")[0] for words in index.keys[: len(key.columns)]]
    return set(first) == set(key.columns)


@on_history("keyhub.M030")
def index_repeats(history: History) -> Iterator[tuple[int, Complaint]]:
    """Each write pays for each index: https://www.postgresql.org/docs/current/indexes-multicolumn.html"""
    ignored = {name for step in history.steps for name in step.django_tables}
    for table in history.catalogue.tables.values():
        if table.name in ignored:
            continue
        for index in table.indexes:
            other = _repeated(index, table)
            if other is not None and index.moment >= 0:
                keys, whole = ", ".join(index.keys), ", ".join(other.keys)
                yield (
                    index.moment,
                    Complaint(
                        index.place,
                        f"{history.title(index.moment)} indexes {table.name} ({keys}) once more: the unique ({whole}) "
                        "answers the same queries, and every write pays for both."
                        if other.unique
                        else f"{history.title(index.moment)} indexes {table.name} ({keys}) twice: every write pays for "
                        "both.",
                        f"Leave {index.name or 'it'} out, or give its name to the other one.",
                    ),
                )


def _repeated(index: Index, table: Table) -> Index | None:
    """The index that makes this one superfluous: of the same keys, or a unique one that goes on after them."""
    for other in table.indexes:
        if other is index or index.method != "btree" or other.method != "btree":
            continue
        same = other.keys == index.keys and other.predicate == index.predicate
        earlier = table.indexes.index(other) < table.indexes.index(index)
        if same and (other.unique, earlier) > (index.unique, not earlier) and not (index.unique and not other.unique):
            return other
        longer = other.keys[: len(index.keys)] == index.keys and not other.predicate and not index.predicate
        if longer and not same and other.unique and not index.unique:
            return other
    return None


@on_statement("keyhub.M031")
def key_fixed_by_predicate(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """A column of one value orders nothing: https://www.postgresql.org/docs/current/indexes-partial.html"""
    for action in statement.actions:
        if not isinstance(action, actions.CreateIndex) or action.unique:
            continue
        fixed = [key for key in action.keys if key.split(" ")[0] in _fixed_columns(list(action.predicate))]
        if fixed:
            yield Complaint(
                statement.place,
                f"{scene.title} indexes {', '.join(fixed)} in {action.index or 'an index'}, whose predicate fixes it "
                "to one value: as a key it orders nothing.",
                "Put the column that queries sort or search by in its place, and leave the predicate.",
            )


def _fixed_columns(predicate: list[Token]) -> set[str]:
    """The columns to which a predicate leaves one value; of a predicate with OR, none."""
    while len(predicate) > 1 and predicate[0].text == "(" and _closes_at_the_end(predicate):
        predicate = predicate[1:-1]
    if len(split(predicate, "OR")) > 1:
        return set()
    conjuncts = split(predicate, "AND")
    if len(conjuncts) > 1:
        return set().union(*(_fixed_columns(part) for part in conjuncts))
    words = [token.word or token.text for token in predicate]
    match words:
        case [_]:
            position = 0
        case ["NOT", _]:
            position = 1
        case [_, "IS", "NULL" | "TRUE" | "FALSE"] | [_, "=", _]:
            position = 0
        case _:
            return set()
    if len(words) == 3 and words[1] == "=" and predicate[2].kind == "word" and words[2] not in ("TRUE", "FALSE"):
        return set()
    return {predicate[position].name} if predicate[position].is_name else set()


def _closes_at_the_end(tokens: list[Token]) -> bool:
    depth = 0
    for position, token in enumerate(tokens):
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0:
            return position == len(tokens) - 1
    return False
