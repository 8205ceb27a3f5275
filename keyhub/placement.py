"""Which tables live in which database, and where their rows are written.

With ADMIN_DATABASE_URL there are two: "default", the tenant database, and "admin", in which the models live that an app
names in its AppConfig: `admin_models`, and among them `followed_models`, whose rows the tenant database gets by
logical replication, since its tables refer to them. Both have the tables; one of the two is their home, in which they
are written, and that is what `manage.py splitadmin` changes, in the table keyhub_split of the tenant database.
"""

import functools
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.migration import Migration
from django.db.migrations.operations.base import Operation

from keyhub.sql_text import tokens

if TYPE_CHECKING:
    from keyhub.migration_operations import RunSQLFile

ADMIN = "admin"
SETTLED = "settled"
CHANGING_ROWS = ("INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "WITH")
ASKED_EVERY_S = 1.0


@dataclass(frozen=True)
class State:
    """Where the models of the Admin database are written, and how far a move of them is (`settled`: there is none)."""

    home: str = DEFAULT_DB_ALIAS
    step: str = SETTLED

    @property
    def is_split(self) -> bool:
        """Whether the Admin database has the tables, be it as a copy: its schema goes along with migrations."""
        return self != State()


STATE = "SELECT home, step FROM keyhub_split"
EXISTS = "SELECT to_regclass('keyhub_split') IS NOT NULL"


def read_state(connection: BaseDatabaseWrapper) -> State:
    """The state as a database has it; that of the tenant database counts. Raises DatabaseError."""
    with connection.cursor() as cursor:
        cursor.execute(EXISTS)
        if cursor.fetchone()[0]:
            cursor.execute(STATE)
            if row := cursor.fetchone():
                return State(*row)
    return State()


class _Asked:
    """The state as this process last heard of it."""

    def __init__(self):
        self.state, self.until, self.assumed = State(), 0.0, None

    def forget(self) -> None:
        self.until = 0.0

    def get(self) -> State:
        if not has_admin():
            return State()
        if self.assumed is not None:
            return self.assumed
        if time.monotonic() >= self.until:
            connection = connections[DEFAULT_DB_ALIAS]
            # A transaction that failed answers nothing; one of an older snapshot, what was.
            if connection.in_atomic_block and (connection.needs_rollback or connection.errors_occurred):
                return self.state
            try:
                self.state = read_state(connection)
            except DatabaseError:
                if not self.until:
                    raise
                # The database that is asked for is another one, and may well answer.
                return self.state
            self.until = time.monotonic() + ASKED_EVERY_S
        return self.state


_asked = _Asked()


def state() -> State:
    """The state, asked for at most once in a second. Raises DatabaseError where nobody has ever answered."""
    return _asked.get()


def forget() -> None:
    """Let the next question go to the database."""
    _asked.forget()


@contextmanager
def one_database() -> Iterator[None]:
    """Assume that there is one database, for who reads migrations and asks none."""
    before, _asked.assumed = _asked.assumed, State()
    try:
        yield
    finally:
        _asked.assumed = before


def has_admin() -> bool:
    """Whether ADMIN_DATABASE_URL names a second database."""
    return ADMIN in connections


def aliases() -> list[str]:
    """The databases that have a schema: of these speak migrate, dbversion, dbhealth and dbbackup."""
    return [DEFAULT_DB_ALIAS, ADMIN] if state().is_split else [DEFAULT_DB_ALIAS]


@functools.cache
def admin_models() -> frozenset[tuple[str, str]]:
    """The models of the Admin database, as (app label, model name)."""
    return frozenset(_models("admin_models"))


def may_move(model: type) -> bool:
    """Whether a model is one of the Admin database, and there is one."""
    return has_admin() and (model._meta.app_label, model._meta.model_name) in admin_models()


def home_of(table: str) -> str:
    """The alias of the database in which a table's rows are written."""
    return state().home if table in admin_tables() else DEFAULT_DB_ALIAS


@functools.cache
def admin_tables() -> tuple[str, ...]:
    """The tables of the Admin database, each behind those that it refers to."""
    return tuple(apps.get_model(*model)._meta.db_table for model in _models("admin_models"))


@functools.cache
def followed_tables() -> tuple[str, ...]:
    """Those of them that the tenant database follows for good."""
    return tuple(apps.get_model(*model)._meta.db_table for model in _models("followed_models"))


def since() -> Iterable[tuple[str, str]]:
    """The migrations below which there is one database alone."""
    return {(app.label, app.admin_since) for app in apps.get_app_configs() if hasattr(app, "admin_since")}


def _models(attribute: str) -> Iterable[tuple[str, str]]:
    # Of the apps above first: they own what those below speak of by id.
    for app in reversed(list(apps.get_app_configs())):
        yield from ((app.label, name) for name in getattr(app, attribute, ()))


@functools.cache
def tables() -> frozenset[str]:
    """The tables of the project's models, of packages too."""
    return frozenset(model._meta.db_table for model in apps.get_models(include_auto_created=True))


def lives(alias: str, table: str) -> bool:
    """Whether a database has a table."""
    return alias != ADMIN or table in admin_tables()


def alias_of(names: Iterable[str]) -> str:
    """Which of the databases has just tables of these names: of a copy, that of which it is one."""
    ours = tables().intersection(names)
    return ADMIN if ours and ours <= set(admin_tables()) else DEFAULT_DB_ALIAS


def has_models(alias: str, app_label: str) -> bool:
    """Whether a database has a table of an app, or what an app without tables makes for all."""
    if alias != ADMIN:
        return True
    return any(app == app_label for app, _ in admin_models()) or not any(apps.get_app_config(app_label).get_models())


def named_tables(statement: str) -> set[str]:
    """The project's tables that a statement names, outside of the texts in it."""
    names = {token[0].strip('"') for token in tokens(statement) if token.lastgroup in ("word", "identifier")}
    return names & tables()


def _is_of_function(statement: str) -> bool:
    words = [token[0].upper() for token in tokens(statement)][:4]
    return "FUNCTION" in words


def runs(alias: str, app_label: str, statement: str) -> bool:
    """Whether a statement of an app's SQL file runs in a database: where all tables live that it names.

    One that changes rows runs where they are written, of two databases that have their tables.
    """
    if not has_admin():
        return True
    names = named_tables(statement)
    if not has_models(alias, app_label) or not all(lives(alias, table) for table in names):
        return False
    may_differ = names and names <= set(admin_tables()) and _changes_rows(statement)
    return not may_differ or alias == state().home


def _changes_rows(statement: str) -> bool:
    first = next(tokens(statement), None)
    return first is not None and first[0].upper() in CHANGING_ROWS


def concerns(alias: str, migration: Migration) -> bool:
    """Whether a migration does anything in a database; where it does not, it is not recorded there either."""
    from keyhub.migration_operations import with_nested

    if alias != ADMIN:
        return True
    return any(_concerns(alias, migration.app_label, operation) for operation in with_nested(migration.operations))


def _concerns(alias: str, app_label: str, operation: Operation) -> bool:
    from keyhub.migration_operations import RefuseRows, RunSQLFile

    if isinstance(operation, RunSQLFile):
        return _file_concerns(alias, app_label, operation)
    if isinstance(operation, RefuseRows):
        return lives(alias, operation.table)
    hints = getattr(operation, "hints", None)
    if hints is not None:  # RunSQL, RunPython
        return (app_label, hints.get("model_name")) in admin_models()
    name = getattr(operation, "model_name", None) or getattr(operation, "name", None)
    return name is not None and (app_label, name.lower()) in admin_models()


def _file_concerns(alias: str, app_label: str, operation: "RunSQLFile") -> bool:
    """By the tables that it names; a file of functions, which are for any, goes wherever its app has tables."""
    statements = operation.statements(app_label, "up")
    if not any(map(named_tables, statements)):
        return has_models(alias, app_label) and all(map(_is_of_function, statements))
    named = map(named_tables, statements)
    return has_models(alias, app_label) and any(names and all(lives(alias, t) for t in names) for names in named)
