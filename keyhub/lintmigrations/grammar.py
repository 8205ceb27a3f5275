"""What PostgreSQL's statements do, read from their tokens: https://www.postgresql.org/docs/current/sql-commands.html

Only as deep as the rules ask. What is read loosely is never guessed at: it becomes OtherChange, or nothing.
"""

from collections.abc import Iterator
from itertools import pairwise

from keyhub.lintmigrations import actions
from keyhub.lintmigrations.actions import Action, Bounds, Column, Constraint
from keyhub.lintmigrations.tokens import Cursor, GrammarError, Token, split, text_of, tokens

COMMANDS = frozenset([
    "ABORT", "ALTER", "ANALYSE", "ANALYZE", "BEGIN", "CALL", "CHECKPOINT", "CLOSE", "CLUSTER", "COMMENT", "COMMIT",
    "COPY", "CREATE", "DEALLOCATE", "DECLARE", "DELETE", "DISCARD", "DO", "DROP", "END", "EXECUTE", "EXPLAIN",
    "FETCH", "GRANT", "IMPORT", "INSERT", "LISTEN", "LOAD", "LOCK", "MERGE", "MOVE", "NOTIFY", "PREPARE",
    "REASSIGN", "REFRESH", "REINDEX", "RELEASE", "RESET", "REVOKE", "ROLLBACK", "SAVEPOINT", "SECURITY", "SELECT",
    "SET", "SHOW", "START", "TABLE", "TRUNCATE", "UNLISTEN", "UPDATE", "VACUUM", "VALUES", "WITH",
])  # fmt: skip
OBJECTS = frozenset([
    "ACCESS", "AGGREGATE", "CAST", "COLLATION", "CONVERSION", "DATABASE", "DEFAULT", "DOMAIN", "EVENT", "EXTENSION",
    "FOREIGN", "FUNCTION", "GROUP", "INDEX", "LANGUAGE", "LARGE", "MATERIALIZED", "OPERATOR", "OWNED", "POLICY",
    "PROCEDURE", "PUBLICATION", "ROLE", "ROUTINE", "RULE", "SCHEMA", "SEQUENCE", "SERVER", "STATISTICS",
    "SUBSCRIPTION", "SYSTEM", "TABLE", "TABLESPACE", "TEXT", "TRANSFORM", "TRIGGER", "TYPE", "USER", "VIEW",
])  # fmt: skip
OBJECT_MODIFIERS = frozenset([
    "CONSTRAINT", "GLOBAL", "LOCAL", "OR", "PROCEDURAL", "RECURSIVE", "REPLACE", "TEMP", "TEMPORARY", "TRUSTED",
    "UNIQUE", "UNLOGGED",
])  # fmt: skip
TABLE_CONSTRAINTS = ("CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "EXCLUDE")
COLUMN_CLAUSES = (
    "CONSTRAINT", "NOT", "NULL", "DEFAULT", "GENERATED", "PRIMARY", "UNIQUE", "CHECK", "REFERENCES", "COLLATE",
    "COMPRESSION", "STORAGE", "DEFERRABLE", "INITIALLY", "NO", "ENFORCED",
)  # fmt: skip
SERIALS = ("smallserial", "serial", "bigserial", "serial2", "serial4", "serial8")
# Before a statement in the body of a DO block.
BODY_OPENERS = ("BEGIN", "THEN", "ELSE", "LOOP")
BODY_STATEMENTS = (
    "ALTER", "COPY", "CREATE", "DELETE", "DROP", "EXECUTE", "INSERT", "MERGE", "REINDEX", "TRUNCATE", "UPDATE", "WITH",
)  # fmt: skip


def actions_of(statement: list[Token]) -> list[Action]:
    """Return what a statement does. Raises GrammarError for what no server would take."""
    cursor = Cursor(statement)
    command = cursor.peek()
    if command.word in ("CREATE", "ALTER", "DROP"):
        return _object_statement(cursor)
    if command.word == "DO":
        return list(_body_actions(next((token for token in statement if token.kind in ("dollar", "string")), None)))
    if command.word == "REINDEX":
        return [actions.Reindex(concurrently="CONCURRENTLY" in {token.word for token in statement})]
    if command.word not in COMMANDS and command.text != "(":
        raise GrammarError(f"{command.text!r} begins no statement of PostgreSQL", command.offset)
    written = _rows_written(statement)
    return [written] if written else []


def _object_statement(cursor: Cursor) -> list[Action]:
    verb = cursor.next().word
    first = cursor.position
    while cursor.peek().word in OBJECT_MODIFIERS:
        cursor.next()
    kind = cursor.next()
    if kind.word not in OBJECTS:
        raise GrammarError(f"{verb} {kind.text or 'nothing'} is no statement of PostgreSQL", kind.offset)
    modifiers = {token.word for token in cursor.tokens[first : cursor.position - 1]}
    match verb, kind.word:
        case "CREATE", "TABLE":
            return [_create_table(cursor, temporary=bool(modifiers & {"TEMP", "TEMPORARY"}))]
        case "CREATE", "INDEX":
            return [_create_index(cursor, unique="UNIQUE" in modifiers)]
        case "CREATE", "EXTENSION":
            cursor.take("IF", "NOT", "EXISTS")
            return [actions.CreateExtension(cursor.name())]
        case "CREATE", "FUNCTION" | "PROCEDURE":
            return [actions.CreateFunction(cursor.name(), _function_body(cursor.tokens))]
        case "CREATE", "TRIGGER":
            return [_create_trigger(cursor)]
        case "ALTER", "TABLE":
            return _alter_table(cursor)
        case "DROP", "TABLE":
            cursor.take("IF", "EXISTS")
            return [actions.DropTable(_names(cursor))]
        case "DROP", "INDEX":
            concurrently = cursor.take("CONCURRENTLY")
            if_exists = cursor.take("IF", "EXISTS")
            return [actions.DropIndex(_names(cursor), concurrently, if_exists)]
    return [actions.OtherChange()]


def _names(cursor: Cursor) -> tuple[str, ...]:
    names = [cursor.name()]
    while cursor.peek().text == ",":
        cursor.next()
        names.append(cursor.name())
    return tuple(names)


# CREATE TABLE


def _create_table(cursor: Cursor, temporary: bool) -> Action:
    if_not_exists = cursor.take("IF", "NOT", "EXISTS")
    table = cursor.name()
    columns: list[Column] = []
    constraints: list[Constraint] = []
    copies = from_query = False
    partition_of = partition_key = None
    bounds = Bounds()
    if cursor.take("PARTITION", "OF"):
        partition_of = cursor.name()
    if cursor.peek().text == "(":
        for element in split(cursor.group()):
            if not element:
                continue
            part = Cursor(element)
            if part.at("LIKE"):
                copies = True
            elif part.peek().word in TABLE_CONSTRAINTS:
                constraints.append(_table_constraint(part))
            else:
                columns.append(_column(part, typed=partition_of is None))
    if partition_of:
        bounds = _bounds(cursor)
    while not cursor.at_end:
        if cursor.take("PARTITION", "BY"):
            cursor.next()
            partition_key = tuple(text_of(part) for part in split(cursor.group()))
        elif cursor.at("INHERITS") or cursor.at("OF"):
            copies = True
            cursor.next()
        elif cursor.take("AS"):
            copies = from_query = True
            break
        else:
            cursor.next()
    return actions.CreateTable(
        table, tuple(columns), tuple(constraints), if_not_exists, temporary, partition_key, partition_of, bounds,
        copies, from_query,
    )  # fmt: skip


def _column(cursor: Cursor, typed: bool = True) -> Column:
    offset = cursor.peek().offset
    name = cursor.name()
    of_type = text_of(cursor.until(*COLUMN_CLAUSES)) if typed else ""
    not_null = False
    default: tuple[Token, ...] = ()
    filled = "a serial type" if of_type in SERIALS else ""
    constraints: list[Constraint] = []
    constraint_name = None
    while not cursor.at_end:
        at = cursor.peek().offset
        if cursor.take("CONSTRAINT"):
            constraint_name = cursor.name()
            continue
        if cursor.take("NOT", "NULL"):
            not_null = True
        elif cursor.take("DEFAULT"):
            default = _default(cursor)
        elif cursor.take("GENERATED"):
            cursor.skip_to("AS")
            if cursor.take("IDENTITY"):
                filled = "IDENTITY"
            else:
                cursor.group()
                filled = "" if cursor.take("VIRTUAL") else "GENERATED … STORED"
        elif cursor.take("PRIMARY", "KEY"):
            constraints.append(Constraint("primary key", (name,), constraint_name, offset=at))
        elif cursor.take("UNIQUE"):
            constraints.append(Constraint("unique", (name,), constraint_name, offset=at))
        elif cursor.take("CHECK"):
            constraints.append(Constraint("check", (name,), constraint_name, text_of(cursor.group()), offset=at))
        elif cursor.at("REFERENCES"):
            constraints.append(_references(cursor, (name,), constraint_name, at))
        else:
            cursor.next()
        constraint_name = None
    return Column(name, of_type, not_null, default, filled, tuple(constraints), offset)


def _default(cursor: Cursor) -> tuple[Token, ...]:
    """The expression after DEFAULT, whose first word may be NULL or NOT."""
    first = () if cursor.peek().text == "(" else (cursor.next(),)
    return (*first, *cursor.until(*COLUMN_CLAUSES))


def _table_constraint(cursor: Cursor) -> Constraint:
    offset = cursor.peek().offset
    name = cursor.name() if cursor.take("CONSTRAINT") else None
    if cursor.take("FOREIGN", "KEY"):
        return _references(cursor, cursor.names(), name, offset)
    columns: tuple[str, ...] = ()
    expression = ""
    if cursor.take("CHECK"):
        kind, expression = "check", text_of(cursor.group())
    elif cursor.take("NOT", "NULL"):
        kind, columns = "not null", (cursor.name(),)
    elif cursor.take("EXCLUDE"):
        kind = "exclude"
    else:
        kind = "primary key" if cursor.take("PRIMARY", "KEY") else "unique"
        if kind == "unique" and not cursor.take("UNIQUE"):
            raise cursor.unexpected(cursor.peek())
        while cursor.take_any("NULLS", "NOT", "DISTINCT"):
            pass
        if cursor.peek().text == "(":
            columns = cursor.names()
    words = [token.word for token in cursor.tokens[cursor.position :]]
    using_index = cursor.name() if cursor.skip_to("USING", "INDEX") else None
    return Constraint(
        kind, columns, name, expression, not_valid=_not_valid(words), using_index=using_index, offset=offset
    )


def _references(cursor: Cursor, columns: tuple[str, ...], name: str | None, offset: int) -> Constraint:
    if not cursor.take("REFERENCES"):
        raise cursor.unexpected(cursor.peek())
    table = cursor.name()
    referenced = cursor.names() if cursor.peek().text == "(" else ()
    on_delete = ""
    start = cursor.position
    while not cursor.at_end:
        if cursor.take("MATCH"):
            cursor.next()
        elif cursor.take("ON"):
            event = cursor.next().word
            rule = cursor.next().word
            if rule in ("SET", "NO"):
                rule += " " + cursor.next().word
            if cursor.peek().text == "(":
                cursor.group()
            on_delete = rule if event == "DELETE" else on_delete
        elif cursor.take("NOT", "VALID") or cursor.take("NOT", "DEFERRABLE") or cursor.take("NOT", "ENFORCED"):
            pass
        elif cursor.peek().word in ("DEFERRABLE", "INITIALLY", "DEFERRED", "IMMEDIATE", "ENFORCED"):
            cursor.next()
        else:
            break
    words = [token.word for token in cursor.tokens[start : cursor.position]]
    return Constraint(
        "foreign key", columns, name, "", table, referenced, on_delete, not_valid=_not_valid(words), offset=offset
    )


def _not_valid(words: list[str]) -> bool:
    """NOT ENFORCED reads no rows either."""
    return any(pair in (("NOT", "VALID"), ("NOT", "ENFORCED")) for pair in pairwise(words))


def _bounds(cursor: Cursor) -> Bounds:
    if cursor.take("DEFAULT"):
        return Bounds(is_default=True)
    if not cursor.take("FOR", "VALUES"):
        raise cursor.unexpected(cursor.peek())
    is_range = cursor.at("FROM")
    literals: list[str] = []
    while cursor.peek().word in ("FROM", "TO", "IN", "WITH"):
        cursor.next()
        literals += [token.literal for token in cursor.group() if token.kind == "string"]
    return Bounds(is_range=is_range, literals=tuple(literals))


# CREATE INDEX, CREATE FUNCTION, CREATE TRIGGER


def _create_index(cursor: Cursor, unique: bool) -> Action:
    concurrently = cursor.take("CONCURRENTLY")
    if_not_exists = cursor.take("IF", "NOT", "EXISTS")
    index = "" if cursor.at("ON") else cursor.name()
    if not cursor.take("ON"):
        raise cursor.unexpected(cursor.peek())
    only = cursor.take("ONLY")
    table = cursor.name()
    method = cursor.name() if cursor.take("USING") else "btree"
    expressions = cursor.group()
    keys = tuple(_index_key(part) for part in split(expressions))
    predicate = tuple(cursor.tokens[cursor.position :]) if cursor.skip_to("WHERE") else ()
    return actions.CreateIndex(
        index, table, keys, unique, concurrently, if_not_exists, method, only, predicate, tuple(expressions)
    )


def _index_key(part: list[Token]) -> str:
    """A column or expression with what orders it; ASC is the default and left out."""
    return text_of(token for token in part if token.word != "ASC")


def _function_body(statement: list[Token]) -> str:
    bodies = [
        token.literal
        for before, token in pairwise(statement)
        if before.word == "AS" and token.kind in ("dollar", "string")
    ]
    return bodies[0] if bodies else ""


def _create_trigger(cursor: Cursor) -> Action:
    trigger = cursor.name()
    events = set()
    while not cursor.at_end and not cursor.take("ON"):
        events.add(cursor.next().word)
    table = cursor.name()
    has_condition = any(token.word == "WHEN" for token in cursor.tokens[cursor.position :])
    if not cursor.skip_to("EXECUTE"):
        raise cursor.unexpected(cursor.peek())
    cursor.take_any("FUNCTION", "PROCEDURE")
    return actions.CreateTrigger(trigger, table, cursor.name(), frozenset(events - {"", "OR", "OF"}), has_condition)


# ALTER TABLE


def _alter_table(cursor: Cursor) -> list[Action]:
    if cursor.take("ALL", "IN", "TABLESPACE"):
        return [actions.OtherChange()]
    cursor.take("IF", "EXISTS")
    cursor.take("ONLY")
    table = cursor.name()
    if cursor.peek().text == "*":
        cursor.next()
    return [_alteration(table, Cursor(part)) for part in split(cursor.tokens[cursor.position :])]


def _alteration(table: str, cursor: Cursor) -> Action:
    match cursor.take_any("ADD", "ALTER", "DROP", "RENAME", "SET", "VALIDATE", "ATTACH", "DETACH"):
        case "ADD":
            return _addition(table, cursor)
        case "ALTER":
            return _column_alteration(table, cursor)
        case "DROP":
            if cursor.take("CONSTRAINT"):
                cursor.take("IF", "EXISTS")
                return actions.DropConstraint(table, cursor.name())
            cursor.take("COLUMN")
            cursor.take("IF", "EXISTS")
            return actions.DropColumn(table, cursor.name())
        case "RENAME":
            return _renaming(table, cursor)
        case "SET":
            if cursor.peek().word in ("LOGGED", "UNLOGGED", "TABLESPACE", "ACCESS"):
                return actions.RewriteTable(table, "SET " + text_of(cursor.tokens[cursor.position :]).upper())
        case "VALIDATE":
            if cursor.take("CONSTRAINT"):
                return actions.ValidateConstraint(table, cursor.name())
        case "ATTACH":
            cursor.take("PARTITION")
            return actions.AttachPartition(table, cursor.name(), _bounds(cursor))
        case "DETACH":
            cursor.take("PARTITION")
            partition = cursor.name()
            return actions.DetachPartition(table, partition, cursor.take("CONCURRENTLY"))
    return actions.OtherChange()


def _addition(table: str, cursor: Cursor) -> Action:
    if cursor.peek().word in TABLE_CONSTRAINTS or cursor.at("NOT", "NULL"):
        return actions.AddConstraint(table, _table_constraint(cursor))
    cursor.take("COLUMN")
    if_not_exists = cursor.take("IF", "NOT", "EXISTS")
    return actions.AddColumn(table, _column(cursor), if_not_exists)


def _column_alteration(table: str, cursor: Cursor) -> Action:
    if cursor.take("CONSTRAINT"):
        return actions.OtherChange()
    cursor.take("COLUMN")
    column = cursor.name()
    if cursor.take("TYPE") or cursor.take("SET", "DATA", "TYPE"):
        return actions.AlterType(table, column, text_of(cursor.until("USING", "COLLATE")))
    if cursor.take("SET", "NOT", "NULL"):
        return actions.SetNotNull(table, column)
    if cursor.take("DROP", "NOT", "NULL"):
        return actions.DropNotNull(table, column)
    if cursor.take("SET", "DEFAULT"):
        return actions.SetDefault(table, column, tuple(cursor.tokens[cursor.position :]))
    if cursor.take("DROP", "DEFAULT"):
        return actions.SetDefault(table, column)
    return actions.OtherChange()


def _renaming(table: str, cursor: Cursor) -> Action:
    if cursor.take("TO"):
        return actions.RenameTable(table, cursor.name())
    if cursor.take("CONSTRAINT"):
        return actions.OtherChange()
    cursor.take("COLUMN")
    column = cursor.name()
    cursor.take("TO")
    return actions.RenameColumn(table, column, cursor.name())


# Rows, and the bodies of DO blocks


def _rows_written(statement: list[Token]) -> Action | None:
    """The write of a statement; of several in a WITH, the last one."""
    cursor = Cursor(statement)
    verb = table = ""
    previous = ""
    while not cursor.at_end:
        token = cursor.next()
        starts = previous in ("", "(", ")")
        if token.word == "INSERT" and starts and cursor.take("INTO"):
            verb, table = "INSERT", cursor.name()
        elif token.word == "MERGE" and starts and cursor.take("INTO"):
            verb, table = "MERGE", cursor.name()
        elif token.word == "DELETE" and starts and cursor.take("FROM"):
            cursor.take("ONLY")
            verb, table = "DELETE", cursor.name()
        elif token.word == "UPDATE" and starts:
            cursor.take("ONLY")
            verb, table = "UPDATE", cursor.name()
        elif token.word == "TRUNCATE" and not previous:
            cursor.take("TABLE")
            cursor.take("ONLY")
            verb, table = "TRUNCATE", cursor.name()
        elif token.word == "COPY" and not previous and cursor.peek().is_name:
            name = cursor.name()
            if cursor.skip_to("FROM"):
                verb, table = "COPY", name
        previous = token.text
    if not verb:
        return None
    words = [token.word for token in statement]
    guarded = any(pair in (("ON", "CONFLICT"), ("NOT", "EXISTS")) for pair in pairwise(words))
    mentions = frozenset(token.name for token in statement if token.is_name)
    return actions.WriteRows(verb, table, mentions, verb not in ("INSERT", "COPY") or guarded or "EXCEPT" in words)


def _body_actions(body: Token | None) -> Iterator[Action]:
    """What the PL/pgSQL of a DO block does, including constant text that it executes."""
    if body is None:
        return
    for part in split(tokens(body.literal, body.offset + body.text.index(body.literal)), ";"):
        previous = "BEGIN"
        for position, token in enumerate(part):
            if token.word in BODY_STATEMENTS and previous in BODY_OPENERS:
                statement = part[position:]
                yield from _executed(statement) if token.word == "EXECUTE" else actions_of(statement)
                break
            previous = token.word


def _executed(statement: list[Token]) -> list[Action]:
    """EXECUTE 'text' and EXECUTE format('text', …); what is put together in another way is not read."""
    start = 3 if len(statement) > 3 and statement[1].name == "format" else 1
    if len(statement) <= start or statement[start].kind not in ("string", "dollar"):
        return []
    text = statement[start].literal.replace("%I", '"…"').replace("%s", '"…"').replace("%L", "$1")
    try:
        return [
            action for part in split(tokens(text, statement[start].offset), ";") if part for action in actions_of(part)
        ]
    except GrammarError:
        return []
