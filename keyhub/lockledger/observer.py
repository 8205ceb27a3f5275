"""What a statement takes and rewrites, seen from its own transaction; or, where it runs in none, by holding it up."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import psycopg
from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from keyhub.lockledger.ledger import Facts, LedgerError, Step, python_key, statement_key, statement_title
from keyhub.lockledger.modes import CONFLICTS, IN_PG_LOCKS, ROW_EXCLUSIVE, SHARE_UPDATE_EXCLUSIVE

ACTIVE_SQL_TRANSACTION = "25001"
POLL_S = 0.005
# Those of the runner itself, into which it writes for every migration.
RUNNER_TABLES = ("django_migrations", "keyhub_migrations")
TABLE_KINDS = ("r", "p")

# `owner` is the table of an index, and the table of a sequence that belongs to a column.
RELATIONS = """
    SELECT relation.oid, nspname, relname, relkind, relispartition, relfilenode, coalesce(indrelid, refobjid) AS owner,
           format('%%s%%I', CASE WHEN nspname = current_schema() THEN '' ELSE quote_ident(nspname) || '.' END,
                  regexp_replace(relname, %(month)s, CASE WHEN relispartition THEN '_YYYY_MM' ELSE '\\&' END))
    FROM pg_class AS relation
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
        LEFT JOIN pg_index ON indexrelid = relation.oid
        LEFT JOIN pg_depend ON relkind = 'S' AND classid = 'pg_class'::regclass AND objid = relation.oid
                               AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND relkind <> 'c'
"""
# A partition by month, and its indexes: their names must not make the ledger depend on the day.
MONTH = r"_\d{4}_\d{2}(?=_|$)"
LOCKS = """
    SELECT CASE WHEN locktype = 'relation' THEN relation END, mode, granted FROM pg_locks
    WHERE pid = %s AND (database IS NULL OR database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


@dataclass(frozen=True)
class Relation:
    oid: int
    schema: str
    relname: str
    kind: str
    is_partition: bool
    file: int
    owner: int | None
    name: str
    """As the ledger calls it."""


class Lock(NamedTuple):
    """A lock that a session has, or waits for. SIReadLock, of SERIALIZABLE, has no mode: it stops nobody."""

    oid: int | None
    mode: str | None
    granted: bool


@dataclass
class Observer:
    """Fills the `step` that it is given with facts about the relations that were there when the step began."""

    connection: BaseDatabaseWrapper
    step: Step | None = None
    _facts: Facts | None = None
    _before: dict[int, Relation] = field(default_factory=dict)
    _busy: bool = False
    _pid: int | None = None

    @contextmanager
    def observing(self, step: Step) -> Iterator[None]:
        self._before = self._relations()
        # Asked of the server itself: a pooler gives its clients numbers of its own.
        (self._pid,) = self.connection.connection.execute("SELECT pg_backend_pid()").fetchone()
        self.step = step
        try:
            yield
        finally:
            self.step = None

    @contextmanager
    def statement(self, sql: str) -> Iterator[None]:
        with self._about(statement_key(sql), statement_title(sql)):
            yield

    @contextmanager
    def python(self, name: str) -> Iterator[None]:
        """What is run inside counts as one statement."""
        with self._about(python_key(name), python_key(name)):
            yield

    @contextmanager
    def _about(self, key: str, title: str) -> Iterator[None]:
        if self.step is None or self._facts is not None:
            yield
            return
        self._facts = self.step.of(key, title)
        try:
            yield
        finally:
            self._facts = None

    def __call__(self, execute: Callable, sql, params, many, context):
        """Django's execute_wrapper."""

        def run():
            return execute(sql, params, many, context)

        # The runner asks and sets things of its own around a statement.
        if self._facts is None or self._busy:
            return run()
        self._busy = True
        try:
            if self.connection.in_atomic_block:
                return self._in_transaction(run)
            try:
                # A statement sent alone is a transaction of one statement.
                with transaction.atomic(using=self.connection.alias):
                    return self._in_transaction(run)
            except DatabaseError as error:
                if getattr(error.__cause__, "sqlstate", None) != ACTIVE_SQL_TRANSACTION:
                    raise
            return self._held_up(run)
        finally:
            self._busy = False

    def _in_transaction(self, run: Callable):
        server = self.connection.connection
        relations, held = self._relations(), _on_relations(_locks(server, self._pid))
        result = run()
        taken = _on_relations(_locks(server, self._pid))
        self._note(taken - held, taken, held)
        self._note_files(relations, self._relations())
        return result

    def _held_up(self, run: Callable):
        relations = self._relations()
        tables = [oid for oid, relation in self._before.items() if relation.kind in TABLE_KINDS]
        with _HoldUp(self.connection, self._pid, tables) as seen:
            result = run()
        self._note(seen.locks, seen.locks, set())
        self._note_files(relations, self._relations())
        return result

    def _note(self, new: set[tuple[int, str]], taken: set[tuple[int, str]], held: set[tuple[int, str]]) -> None:
        for oid, mode in new:
            relation = self._before.get(oid)
            if relation is None:
                continue
            # Nobody notices a lock beside a stronger one that is held already, nor one of an index beside its table's.
            others = [CONFLICTS[other] for table, other in held if table == oid]
            others += [CONFLICTS[other] for table, other in taken if table == relation.owner]
            if not any(CONFLICTS[mode] <= conflicts for conflicts in others):
                self._facts.add_lock(relation.name, mode)

    def _note_files(self, before: dict[int, Relation], after: dict[int, Relation]) -> None:
        rewritten = {
            oid
            for oid in self._before.keys() & before.keys() & after.keys()
            if after[oid].kind not in ("i", "I", "S") and before[oid].file != after[oid].file
        }
        self._facts.rewrites |= {after[oid].name for oid in rewritten}
        # A new type of a column gives an index a new oid, and only sometimes a new file.
        was = {(index.schema, index.relname): index for index in before.values() if index.oid in self._before}
        for index in after.values():
            earlier = was.get((index.schema, index.relname))
            if index.kind == "i" and earlier and earlier.file != index.file and index.owner not in rewritten:
                self._facts.rebuilds.add(index.name)

    def _relations(self) -> dict[int, Relation]:
        """By oid, and without the runner's own."""
        self.connection.ensure_connection()
        rows = self.connection.connection.execute(RELATIONS, {"month": MONTH}).fetchall()
        found = {row[0]: Relation(*row) for row in rows}
        runners = {oid for oid, relation in found.items() if relation.relname in RUNNER_TABLES}
        return {oid: relation for oid, relation in found.items() if not {oid, relation.owner} & runners}


class _HoldUp:
    """Keeps a statement that runs outside a transaction waiting wherever it would wait, to look at its locks there.

    CREATE INDEX CONCURRENTLY and its like work in several transactions, and before each they wait for those who hold
    locks on the table: https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY.
    Somebody who holds locks on all tables makes each of these waits last until it was looked at; then a successor
    takes over, for which the statement waits at its next one. What a statement takes and gives back between two waits
    is not seen, and so never seen by chance.
    """

    def __init__(self, connection: BaseDatabaseWrapper, pid: int, tables: list[int]):
        self.locks: set[tuple[int, str]] = set()
        self._connection = connection
        self._pid = pid
        self._tables = tables
        self._error: LedgerError | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="keyhub-lockledger", daemon=True)

    def __enter__(self) -> "_HoldUp":
        self._observer = self._connect()
        # So that even a statement that waits for nobody but its own kind, as VACUUM does, is seen once.
        try:
            self._holder = self._hold(SHARE_UPDATE_EXCLUSIVE)
        except LedgerError:
            self._observer.close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._done.set()
        self._thread.join()
        self._holder.close()
        self._observer.close()
        if self._error:
            raise self._error

    def _watch(self) -> None:
        try:
            while not self._done.is_set():
                locks = _locks(self._observer, self._pid)
                if all(lock.granted for lock in locks):
                    time.sleep(POLL_S)
                    continue
                self.locks |= _on_relations(locks)
                successor = self._hold(ROW_EXCLUSIVE)
                # Not close() alone, which does not wait until the server has let go.
                self._holder.execute("ROLLBACK")
                self._holder.close()
                self._holder = successor
        except (LedgerError, psycopg.Error) as error:
            self._error = _unseen(error)
            # The statement must not wait for ever.
            self._holder.close()

    def _hold(self, mode: str) -> psycopg.Connection:
        holder = self._connect()
        names = holder.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE oid = ANY(%s)", [self._tables]
        ).fetchall()
        holder.execute("BEGIN")
        for (name,) in names:
            try:
                with holder.transaction():
                    holder.execute(f"LOCK TABLE ONLY {name} IN {mode} MODE NOWAIT")
            except psycopg.errors.LockNotAvailable:
                # The statement has it, or waits for it, in a mode that stops even this: it was seen there.
                continue
        return holder

    def _connect(self) -> psycopg.Connection:
        try:
            return psycopg.connect(**self._connection.get_connection_params(), autocommit=True)
        except psycopg.Error as error:
            raise _unseen(error) from error


def _unseen(error: Exception) -> LedgerError:
    if isinstance(error, LedgerError):
        return error
    return LedgerError(f"a statement outside a transaction could not be watched: {' '.join(str(error).split())}")


def _locks(server: psycopg.Connection, pid: int) -> list[Lock]:
    return [Lock(oid, IN_PG_LOCKS.get(mode), granted) for oid, mode, granted in server.execute(LOCKS, [pid])]


def _on_relations(locks: list[Lock]) -> set[tuple[int, str]]:
    return {(lock.oid, lock.mode) for lock in locks if lock.oid is not None and lock.mode is not None}
