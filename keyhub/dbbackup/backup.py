"""Making a backup: one snapshot, which pg_dump writes and of which every table is counted and digested meanwhile."""

import contextlib
import secrets
import threading
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path

import psycopg
from django.conf import settings
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.errors import LockNotAvailable

from keyhub.dbbackup import archive, manifest, measure
from keyhub.dbbackup.encryption import SUFFIX, Encryption
from keyhub.dbbackup.errors import BackupError
from keyhub.dbbackup.manifest import Manifest, Part
from keyhub.dbbackup.programs import Program, Session, programs_for, version_of
from keyhub.dbbackup.sessions import open_session
from keyhub.dbversion import version_list
from keyhub.dbversion.database import DatabaseVersion
from keyhub.dbversion.version_list import MigrationKey
from keyhub.migrate.runner_lock import refuse_transaction_pooler
from keyhub.store import Store, StoreError

# pg_dump asks for every table's weakest lock at its start, and gives up where a migration keeps one for longer.
LOCK_WAIT_TIMEOUT_MS = 60_000
READ_ONLY = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


def make(alias: str, store: Store, encryption: Encryption | None, progress: Callable[[int], None]) -> Manifest:
    """Back up a database into a store, and return what its manifest says. `progress` is told plain bytes.

    Where anything fails, nothing of it stays but what a dead store keeps, and no manifest.
    Raises BackupError, PoolerError, and DatabaseError where the database cannot be asked.
    """
    connection = connections[alias]
    connection.ensure_connection()
    refuse_transaction_pooler(connection)
    programs = programs_for(connection)
    unhealthy = measure.unhealthy(alias)
    with _snapshot(connection) as (own, snapshot):
        raw = own.connection
        facts = _facts(own)
        started_at = raw.execute("SELECT now()").fetchone()[0]
        name = f"{started_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        folder = f"{manifest.folder_of(facts['database'], facts['system_identifier'])}/{name}"
        suffix = SUFFIX if encryption else ""
        session = Session.of(own)
        try:
            with _Measuring(raw) as measuring:
                arguments = [
                    programs / "pg_dump", "--format=custom", "--compress=0", f"--snapshot={snapshot}", "--no-password",
                    f"--lock-wait-timeout={LOCK_WAIT_TIMEOUT_MS}", f"--dbname={session.conninfo}",
                    # A copy that is restored is no second subscriber of anything.
                    "--no-publications", "--no-subscriptions",
                ]  # fmt: skip
                dump = f"dump.pgc.zst{suffix}"
                with Program(arguments, session.environment, gives_output=True) as pg_dump:
                    written = archive.write(pg_dump, store, f"{folder}/{dump}", encryption, progress)
                tables = measuring.result()
            roles_part = _write_roles(programs, session, store, folder, encryption)
            made = Manifest(
                backup=name, started_at=started_at, tables=tables, unhealthy=unhealthy,
                finished_at=raw.execute("SELECT clock_timestamp()").fetchone()[0],
                pg_dump_version=version_of(programs / "pg_dump"), keyhub_version=_keyhub_version(),
                plain_bytes=written.plain_bytes, recipients=encryption.names if encryption else [],
                parts={"dump": Part(dump, written.size_bytes, written.sha256), "roles": roles_part}, **facts,
            )  # fmt: skip
            manifest.write(store, made)
        except BaseException:
            with contextlib.suppress(StoreError):  # the first reason is the one to tell
                _remove(store, folder)
            raise
    return made


@contextlib.contextmanager
def _snapshot(connection: BaseDatabaseWrapper) -> Iterator[tuple[BaseDatabaseWrapper, str]]:
    """A session of its own whose transaction lasts as long as the block, and the name of its snapshot."""
    own = open_session(connection)
    try:
        raw = own.connection
        # From PostgreSQL 18 on, reading the definition of an index waits for its table.
        raw.execute(f"SET lock_timeout = {LOCK_WAIT_TIMEOUT_MS}")
        raw.execute(READ_ONLY)
        yield own, raw.execute("SELECT pg_export_snapshot()").fetchone()[0]
    except (LockNotAvailable, OperationalError) as error:
        if getattr(error.__cause__ or error, "sqlstate", None) != LockNotAvailable.sqlstate:
            raise
        raise BackupError(
            f"a session holds a table exclusively for longer than {LOCK_WAIT_TIMEOUT_MS / 1000:g} seconds, such as a "
            "migration. Back up when it has ended; manage.py dbhealth --only keyhub.H024 tells which it is."
        ) from error
    finally:
        own.close()


def _facts(own: BaseDatabaseWrapper) -> dict:
    raw = own.connection
    version = DatabaseVersion(own, version_list.read()).current
    return {
        "database": raw.info.dbname,
        "system_identifier": measure.system_identifier(raw),
        "server_version": raw.execute("SHOW server_version").fetchone()[0].split()[0],
        "schema_version": str(version) if version else None,
        "migrations": [".".join(key) for key in _applied(raw)],
        "catalogue_sha256": measure.digest_of(measure.without_publications(measure.catalogue_lines(own))),
        "properties": measure.properties(raw),
        "roles": measure.roles(raw),
    }


def _applied(connection: psycopg.Connection) -> list[MigrationKey]:
    if connection.execute("SELECT to_regclass('django_migrations')").fetchone()[0] is None:
        return []
    return connection.execute("SELECT app, name FROM django_migrations ORDER BY id").fetchall()


def _keyhub_version() -> str:
    with (settings.BASE_DIR / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["project"]["version"]


class _Measuring:
    """The rows of the tables, measured by a thread beside pg_dump, in the same snapshot."""

    def __init__(self, connection: psycopg.Connection):
        self._connection = connection
        self._tables, self._error = None, None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            # Parallel workers would take the cores from pg_dump's session, for which the whole backup waits.
            self._connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
            self._tables = measure.rows_of_tables(self._connection)
        except psycopg.Error as error:
            self._error = error

    def __enter__(self) -> "_Measuring":
        self._thread.start()
        return self

    def __exit__(self, kind, value, traceback) -> None:
        if self._thread.is_alive():
            self._connection.cancel_safe()
            self._thread.join()

    def result(self) -> dict[str, measure.Rows]:
        self._thread.join()
        if self._error:
            raise BackupError(f"the rows could not be counted: {' '.join(str(self._error).split())}") from self._error
        return self._tables


def _write_roles(programs: Path, session: Session, store: Store, folder: str, encryption: Encryption | None) -> Part:
    """Keep the server's roles beside the archive, which speaks of them and has none; without passwords."""
    arguments = [
        programs / "pg_dumpall", "--roles-only", "--no-role-passwords", "--no-password",
        f"--dbname={session.conninfo}",
    ]  # fmt: skip
    content = b""
    with Program(arguments, session.environment, gives_output=True) as pg_dumpall:
        while chunk := pg_dumpall.read():
            content += chunk
    name = "roles.sql"
    if encryption:
        name, content = name + SUFFIX, encryption.encrypt(content)
    store.put(f"{folder}/{name}", content)
    return Part(name, len(content), archive.sha256_of(content))


def _remove(store: Store, folder: str) -> None:
    for item in store.list(folder):
        store.delete(item.path)
