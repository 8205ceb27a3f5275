"""The whole of a restore: verify, load, compare; only then does the new database get its name."""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import psycopg
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader

from keyhub.dbbackup import archive, encryption, measure
from keyhub.dbbackup.encryption import Decryption
from keyhub.dbbackup.errors import BackupError
from keyhub.dbbackup.manifest import Manifest
from keyhub.dbbackup.programs import Program, Session, programs_for, run
from keyhub.dbbackup.sessions import open_session
from keyhub.dbrestore import database, roles
from keyhub.dbrestore.load import ScriptLoader, StreamInto
from keyhub.dbversion.database import unknown_to
from keyhub.store import Store, StoreError

ALIAS = "restored"
# A restore that is cut short is begun anew, so nothing waits for the disk.
FAST = "SET synchronous_commit = off"
FAST_OPTIONS = "-c synchronous_commit=off -c statement_timeout=0 -c maintenance_work_mem=256MB"
MOST_JOBS = 8  # by default; each may take maintenance_work_mem


@dataclass
class Restored:
    """What a restore came to: how long it took until the database could be used, and what dbhealth says of it."""

    restore_s: float
    server_version: str
    unhealthy: list[str] = field(default_factory=list)
    created_roles: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Progress:
    """Who is told how far a restore is: what it does now, how many bytes that will be, and bytes that are done."""

    begin: Callable[[str, int], None] = lambda what, total: None
    advance: Callable[[int], None] = lambda size: None


def restore(
    store: Store,
    backup: Manifest,
    connection: BaseDatabaseWrapper,
    name: str,
    *,
    jobs: int | None = None,
    create_roles: bool = False,
    progress: Progress | None = None,
) -> Restored:
    """Restore a backup into a new database of this name, on the server that a connection leads to.

    Nothing is created before every byte of the backup was compared with its digest. Until the copy is compared with
    what the backup was made of, its name ends in "_unfinished"; where anything fails it is dropped.
    `jobs` is the number of sessions at once, by default that of the machine's cores, up to eight.
    Raises BackupError, and DatabaseError where the server cannot be asked.
    """
    database.refuse_long(name)
    progress = progress or Progress()
    jobs = jobs or min(MOST_JOBS, os.cpu_count() or 1)
    with admin_session(connection) as admin:
        _refuse_wrong_version(backup, admin)
        if database.exists(admin, name):
            raise BackupError(
                f"the database {name} exists already, and a backup is restored into a new one. Name another one; with "
                "--swap it takes the place of the one in use."
            )
        decryption = encryption.decryption() if backup.recipients else None
        work = _Work(store, backup, decryption, jobs, progress)
        script = work.verify()
        created = roles.create_missing(admin, backup.roles, script) if create_roles else []
        roles.refuse_missing(admin, backup.roles, backup.backup)
        unfinished = name + database.UNFINISHED
        database.create(admin, unfinished, backup.properties)
        try:
            started_at = time.monotonic()
            with _connection_to(connection, unfinished) as restored:
                work.load(restored)
                restore_s = time.monotonic() - started_at
                unhealthy = work.compare(restored)
                server_version = restored.connection.execute("SHOW server_version").fetchone()[0].split()[0]
            database.apply_properties(admin, unfinished, backup.properties)
            database.rename(admin, unfinished, name)
        except BaseException:
            with contextlib.suppress(psycopg.Error):  # the first reason is the one to tell
                database.drop(admin, unfinished)
            raise
    return Restored(round(restore_s, 1), server_version, unhealthy, created)


@contextlib.contextmanager
def admin_session(connection: BaseDatabaseWrapper) -> Iterator[psycopg.Connection]:
    """A session of a connection's server in a database that nobody restores into. Raises DatabaseError."""
    try:
        own = open_session(connection, "postgres")
    except psycopg.OperationalError:  # a server need not have it
        own = open_session(connection, "template1")
    try:
        yield own.connection
    finally:
        own.close()


@contextlib.contextmanager
def _connection_to(connection: BaseDatabaseWrapper, name: str) -> Iterator[BaseDatabaseWrapper]:
    """Django's connection to another database of the same server, under the alias that dbhealth is told."""
    own = connections[ALIAS] = open_session(connection, name, alias=ALIAS)
    try:
        yield own
    finally:
        own.close()
        del connections[ALIAS]


def _refuse_wrong_version(backup: Manifest, admin: psycopg.Connection) -> None:
    major = admin.info.server_version // 10_000
    if major < backup.server_major:
        raise BackupError(
            f"the backup {backup.backup} is of PostgreSQL {backup.server_major}, and the server is PostgreSQL {major}. "
            f"Restore it on PostgreSQL {backup.server_major} or newer."
        )
    loader = MigrationLoader(None, ignore_no_migrations=True)
    unknown = unknown_to(loader, [tuple(name.split(".", 1)) for name in backup.migrations])
    if unknown:
        raise BackupError(
            f"the backup {backup.backup} is of version {backup.schema_version}, which has {'.'.join(unknown[-1])}; "
            "this code has not. Restore it with the code that made it, or newer."
        )


class _Work:
    """The steps, over what they all need."""

    def __init__(
        self,
        store: Store,
        backup: Manifest,
        decryption: Decryption | None,
        jobs: int,
        progress: Progress,
    ):
        self.store, self.backup, self.decryption = store, backup, decryption
        self.jobs, self.progress = jobs, progress
        self._tag: str | None = None

    def verify(self) -> str:
        """Compare every byte of the backup with its digest; return the script of roles."""
        self.progress.begin("verify", self.backup.parts["dump"].size_bytes)
        self._tag = self._verify("dump", lambda chunk: self.progress.advance(len(chunk)))
        script: list[bytes] = []
        self._verify("roles", script.append)
        content = b"".join(script)
        return (self.decryption.decrypt(content) if self.decryption else content).decode()

    def _verify(self, name: str, take: Callable[[bytes], object]) -> str | None:
        part = self.backup.parts[name]
        return archive.verify(self.store, self.backup.path(name), part.size_bytes, part.sha256, take)

    def load(self, restored: BaseDatabaseWrapper) -> None:
        """Tables, then their rows, then indexes, keys and triggers in parallel."""
        programs = programs_for(restored)
        session = Session.of(restored)
        environment = {**session.environment, "PGOPTIONS": FAST_OPTIONS}
        into = [
            programs / "pg_restore", "--exit-on-error", "--no-password", "--no-subscriptions",
            f"--dbname={session.conninfo}",
        ]  # fmt: skip
        # pg_restore works in parallel on a file alone. For all but the rows the head of the archive will do: its list.
        with _file_in_memory() as head:
            with Program([*into, "--section=pre-data"], environment, takes_input=True) as program:
                self._read_into(_Both(StreamInto(program), head))
                program.process.stdin.close()
                program.finish()
            head.flush()
            self.progress.begin("load", self.backup.plain_bytes)
            self._load_rows(programs, session, restored)
            self.progress.begin("index", 0)
            run([*into, "--section=post-data", f"--jobs={self.jobs}", head.name], environment)
        restored.connection.execute("ANALYZE")

    def _load_rows(self, programs, session: Session, restored: BaseDatabaseWrapper) -> None:
        def connect() -> psycopg.Connection:
            session = open_session(restored).connection
            session.execute(FAST)
            return session

        to_script = [programs / "pg_restore", "--section=data", "--file=-"]
        with (
            Program(to_script, session.environment, takes_input=True, gives_output=True) as program,
            ScriptLoader(connect, self.jobs) as loader,
            _Feeding(self, program) as feeding,
        ):
            loader.run(program)
            feeding.finish()

    def _read_into(self, sink) -> None:
        part = self.backup.parts["dump"]
        archive.read(self.store, self.backup.path("dump"), self._tag, part.sha256, self.decryption, sink)

    def compare(self, restored: BaseDatabaseWrapper) -> list[str]:
        """Compare the copy with what the backup was made of; return what dbhealth says of it. Raises BackupError."""
        backup, raw = self.backup, restored.connection
        self.progress.begin("compare", 0)
        with raw.transaction():
            lines = measure.catalogue_lines(restored)
            tables = measure.rows_of_tables(raw)
        for name in sorted({*tables, *backup.tables}):
            ours, theirs = tables.get(name), backup.tables.get(name)
            if ours is None or theirs is None:
                raise BackupError(
                    f"the table {name} is in {'the copy' if ours else 'the backup'} alone. Do not use it."
                )
            if ours.rows != theirs.rows:
                raise BackupError(
                    f"{name} has {ours.rows} rows in the copy, and had {theirs.rows} when the backup was made."
                )
            if ours != theirs:
                raise BackupError(f"the rows of {name} are not those that the backup was made of.")
        # Backups of older code hold publications.
        if backup.catalogue_sha256 not in map(measure.digest_of, (measure.without_publications(lines), lines)):
            raise BackupError("the copy's catalogue is not that of the database that the backup was made of.")
        unhealthy = measure.unhealthy(ALIAS, backup.alias)
        if new := sorted(set(unhealthy) - set(backup.unhealthy)):
            raise BackupError(f"dbhealth says of the copy what it did not say of the database: {new[0]}.")
        return unhealthy


@contextlib.contextmanager
def _file_in_memory() -> Iterator:
    """A file for a child process that no disk ever sees, where the system has such: behind the list come rows."""
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile() as file:
            yield file
        return
    with os.fdopen(os.memfd_create("keyhub", flags=0), "wb") as file:
        yield SimpleNamespace(write=file.write, flush=file.flush, name=f"/proc/{os.getpid()}/fd/{file.fileno()}")


class _Feeding:
    """A thread that reads the archive into a program, whose output is read meanwhile."""

    def __init__(self, work: _Work, program: Program):
        self._work, self._program = work, program
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._work._read_into(_Told(StreamInto(self._program), self._work.progress.advance))
        except BaseException as error:  # noqa: BLE001 it is raised by finish()
            self._error = error
        finally:
            with contextlib.suppress(BrokenPipeError):
                self._program.process.stdin.close()

    def __enter__(self) -> "_Feeding":
        self._thread.start()
        return self

    def __exit__(self, kind, value, traceback) -> None:
        if kind is not None and self._program.process.poll() is None:
            self._program.process.terminate()
        self._thread.join()
        if self._error and isinstance(value, BackupError | StoreError):
            raise self._error from value  # why the program's input ended, rather than what it made of that

    def finish(self) -> None:
        self._thread.join()
        if self._error:
            raise self._error


class _Both:
    def __init__(self, first, second):
        self._sinks = first, second

    def write(self, content: bytes) -> None:
        self._sinks[1].write(content)
        self._sinks[0].write(content)


class _Told:
    def __init__(self, sink, advance: Callable[[int], None]):
        self._sink, self._advance = sink, advance

    def write(self, content: bytes) -> None:
        self._sink.write(content)
        self._advance(len(content))
