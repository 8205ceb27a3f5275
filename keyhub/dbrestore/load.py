"""The rows of an archive from one stream into a database, through several COPYs at once.

pg_restore alone restores in parallel from a file that it can seek in, which would be a plaintext copy on disk. Here it
turns the stream into its documented script of COPY blocks, whose lines are rows, and these are dealt out to sessions.
"""

import contextlib
import queue
import threading
from collections.abc import Callable

import psycopg

from keyhub.dbbackup.archive import EnoughError
from keyhub.dbbackup.errors import BackupError
from keyhub.dbbackup.programs import Program
from keyhub.store import CHUNK_BYTES

COPY_END = b"\\.\n"
DEAL_BYTES = 256 * 1024
WAITING_DEALS = 4  # for each session
META_COMMANDS = (b"\\restrict ", b"\\unrestrict ")
FOR_ALL_SESSIONS = (b"SET ", b"SELECT pg_catalog.set_config(")


class ScriptLoader:
    """Runs the script of pg_restore in sessions of which each takes a share of the rows."""

    def __init__(self, connect: Callable[[], psycopg.Connection], sessions: int):
        self._sessions = [_Session(connect()) for _ in range(sessions)]
        self._next = 0

    def __enter__(self) -> "ScriptLoader":
        return self

    def __exit__(self, kind, value, traceback) -> None:
        for session in self._sessions:
            session.end(abort=kind is not None)

    def run(self, script) -> None:
        """Run what `script.read(n)` gives. Raises BackupError at the first statement, or row, that is refused."""
        statements, rest, copy = [], b"", None
        while chunk := script.read(CHUNK_BYTES):
            rest += chunk
            while rest:
                if copy is not None:
                    rest, ended = self._deal(copy, rest)
                    if not ended:
                        break
                    copy = None
                else:
                    line, newline, tail = rest.partition(b"\n")
                    if not newline:
                        break
                    rest = tail
                    if line.startswith(b"COPY ") and line.endswith(b" FROM stdin;"):
                        self._execute(statements)
                        statements, copy = [], line.decode()
                    elif not line.startswith(META_COMMANDS):
                        statements.append(line)
        if copy is not None or rest:
            raise BackupError("the archive ends within a table. Take another backup.")
        self._execute(statements)
        for session in self._sessions:
            session.finish()

    def _deal(self, copy: str, rest: bytes) -> tuple[bytes, bool]:
        """Hand the whole lines of the rest to sessions; return what is left, and whether the table has ended."""
        end = 0 if rest.startswith(COPY_END) else rest.find(b"\n" + COPY_END) + 1
        ended = end > 0 or rest.startswith(COPY_END)
        # Of the last line it is not yet known whether it is a row: its beginning may be that of the end.
        rows_end = end if ended else rest.rfind(b"\n") + 1
        view, start = memoryview(rest), 0
        while start < rows_end:
            cut = rows_end if rows_end - start <= DEAL_BYTES else rest.rfind(b"\n", start, start + DEAL_BYTES) + 1
            if cut <= start:  # a row that is longer than a deal
                cut = rest.find(b"\n", start) + 1
            session = self._sessions[self._next % len(self._sessions)]
            session.copy(copy, bytes(view[start:cut]))
            self._next += 1
            start = cut
        return rest[rows_end + len(COPY_END) :] if ended else rest[rows_end:], ended

    def _execute(self, lines: list[bytes]) -> None:
        """Run what stands between two tables, after what comes before it and before what comes after it."""
        lines = [line for line in lines if line and not line.startswith(b"--")]
        if not lines:
            return
        for session in self._sessions:
            session.finish()
        settings = [line for line in lines if line.startswith(FOR_ALL_SESSIONS)]
        for session in self._sessions[1:]:
            session.execute(b"\n".join(settings))
        self._sessions[0].execute(b"\n".join(lines))
        for session in self._sessions:
            session.finish()


class _Session(threading.Thread):
    """One session and the thread that feeds it."""

    def __init__(self, connection: psycopg.Connection):
        super().__init__(daemon=True)
        self._connection = connection
        self._work: queue.Queue = queue.Queue(WAITING_DEALS)
        self._error: Exception | None = None
        self.start()

    def execute(self, statements: bytes) -> None:
        if statements.strip():
            self._put((None, statements))

    def copy(self, copy: str, rows: bytes) -> None:
        self._put((copy, rows))

    def finish(self) -> None:
        """Wait until all of it is done. Raises BackupError."""
        self._put((None, b""))
        self._work.join()
        self._raise()

    def end(self, abort: bool) -> None:
        if abort:
            with contextlib.suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=5)
        self._work.put((None, None))
        self.join()
        self._connection.close()

    def _put(self, work: tuple) -> None:
        self._raise()
        self._work.put(work)

    def _raise(self) -> None:
        if isinstance(self._error, psycopg.Error):
            raise BackupError(f"the restore stopped: {' '.join(str(self._error).split())}.") from self._error
        if self._error:
            raise self._error

    def run(self) -> None:
        current, copying, ending = None, None, contextlib.ExitStack()
        while True:
            copy, content = self._work.get()
            try:
                if self._error is None:
                    if copy != current:
                        ending.close()
                        copying = ending.enter_context(self._connection.cursor().copy(copy)) if copy else None
                        current = copy
                    if copy:
                        copying.write(content)
                    elif content:
                        self._connection.execute(content)
            except Exception as error:  # noqa: BLE001 whatever it is, who hands out the work would wait for ever
                self._error = error
            finally:
                self._work.task_done()
            if content is None:
                return


class StreamInto:
    """The sink of an archive that is a program's standard input; a program that has read enough ends the stream."""

    def __init__(self, program: Program):
        self._pipe = program.process.stdin

    def write(self, content: bytes) -> None:
        try:
            view = memoryview(content)
            while view:
                view = view[self._pipe.write(view) :]
        except BrokenPipeError:
            raise EnoughError from None
