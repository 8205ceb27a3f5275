"""Clients that go on writing through a failover, and note each write that the database has acknowledged.

    python -m tests.failover.writers CODE    writes until its standard input ends, and notes on standard output

A person comes: an account, a membership by the join code, and a session with its row in the audit log. What fails is
tried again, as by a client who cannot know whether it was committed.
"""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import psycopg

from tests.test_embedded import wait_for

PROCESSES, THREADS = 2, 3
PAUSE_S = 0.05


class Acknowledged(NamedTuple):
    at_s: float  # of time.monotonic(), which all processes of a machine share
    table: str
    id: str


class Writers:
    """All of them; a context manager, at whose end they have ended."""

    def __init__(self, environment: dict[str, str], code: str, folder: Path):
        self.files = [folder / f"writer-{number}" for number in range(PROCESSES)]
        self._environment, self._code, self._processes = environment, code, []

    def __enter__(self) -> "Writers":
        command = [sys.executable, "-m", "tests.failover.writers", self._code]
        with ExitStack() as files:
            for path in self.files:
                output = files.enter_context(path.open("wb"))
                self._processes.append(
                    subprocess.Popen(command, env=self._environment, stdin=subprocess.PIPE, stdout=output)
                )
        return self

    def __exit__(self, *_) -> None:
        for process in self._processes:
            process.stdin.close()
        assert [process.wait() for process in self._processes] == [0] * PROCESSES

    def acknowledged(self) -> list[Acknowledged]:
        lines = [line for path in self.files for line in path.read_text().splitlines(keepends=True)]
        return sorted(Acknowledged(*json.loads(line)) for line in lines if line.endswith("\n"))

    def wait_for_write(self, after_s: float) -> None:
        """Until something is acknowledged that was written after a moment of time.monotonic()."""

        def written() -> bool:
            assert [process.poll() for process in self._processes] == [None] * PROCESSES
            return any(write.at_s > after_s for write in self.acknowledged())

        wait_for(written, timeout_s=120)

    def longest_pause_s(self) -> float:
        """For how long nothing was acknowledged to anybody."""
        times = [write.at_s for write in self.acknowledged()]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


def lost_and_doubled(client: psycopg.Connection, writes: list[Acknowledged], code: str) -> list[str]:
    """What the database lacks of what it has acknowledged, and what it has more than once."""
    complaints = []
    for table, column in (
        ("users", "id"), ("tenant_memberships", "user_id"), ("sessions", "id"), ("audit_logs", "id")
    ):  # fmt: skip
        wanted = {write.id for write in writes if write.table == table}
        rows = [row for (row,) in client.execute(f"SELECT {column}::text FROM {table}")]
        complaints += [f"{table}: {row} is lost" for row in sorted(wanted - set(rows))]
        if len(rows) != len(set(rows)):
            complaints.append(f"{table}: {len(rows) - len(set(rows))} are doubled")
    for what, query in (
        ("uses of the code more or less than redemptions", (
            "SELECT abs(used_count - (SELECT count(*) FROM tenant_join_code_redemptions WHERE join_code_id = code.id)) "
            "FROM tenant_join_codes AS code WHERE code = %(code)s"
        )),
        ("sessions without one audit row of their own", (
            "SELECT count(*) FROM sessions WHERE 1 <> "
            "(SELECT count(*) FROM audit_logs WHERE resource_id = sessions.id::text AND action = 'session.start')"
        )),
        ("audit rows without their session", (
            "SELECT count(*) FROM audit_logs WHERE action = 'session.start' "
            "AND resource_id NOT IN (SELECT id::text FROM sessions)"
        )),
    ):  # fmt: skip
        ((count,),) = client.execute(query, {"code": code})
        if count:
            complaints.append(f"{count} {what}")
    return complaints


def _write(code: str, ended: threading.Event) -> None:
    """What a thread does."""
    from django.db import IntegrityError, connection, transaction

    from accounts.models import User
    from audit.models import AuditLog
    from auth_sessions.models import Session
    from tenancy.join_codes import AlreadyAMemberError
    from tenancy.models import TenantJoinCode

    # Of the first two, a try whose answer was lost may have been committed.

    def arrive() -> list[tuple]:
        with suppress(IntegrityError):
            user.save(force_insert=True)
        return [("users", user.pk)]

    def join() -> list[tuple]:
        with suppress(AlreadyAMemberError):
            TenantJoinCode.objects.redeem(code, user)
        return [("tenant_memberships", user.pk)]

    def sign_in() -> list[tuple]:
        with transaction.atomic():
            session, _ = Session.objects.start(user)
            row = AuditLog.objects.record("session.start", "session", session.pk, organization_id="o", user=user)
        return [("sessions", session.pk), ("audit_logs", row.pk)]

    while not ended.wait(PAUSE_S):
        key = uuid.uuid4()  # of our own: a database's would be lost with its answer
        user = User(id=key, email=f"{key}@example.com")
        for step in (arrive, join, sign_in):
            for write in _until_done(step, ended):
                _note(*write)
    connection.close()


def _until_done(step: Callable[[], list[tuple]], ended: threading.Event) -> list[tuple]:
    """Try as requests would: after an error the connection is looked at, and given up where it is of no use."""
    from django.db import InterfaceError, InternalError, OperationalError, close_old_connections

    while not ended.is_set():
        close_old_connections()
        try:
            return step()
        except (OperationalError, InterfaceError, InternalError):
            ended.wait(PAUSE_S)
    return []


def _note(table: str, key: object) -> None:
    os.write(1, (json.dumps([time.monotonic(), table, str(key)]) + "\n").encode())


if __name__ == "__main__":
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "keyhub.settings"
    django.setup()
    ended = threading.Event()
    with ThreadPoolExecutor(THREADS) as pool:
        clients = [pool.submit(_write, sys.argv[1], ended) for _ in range(THREADS)]
        sys.stdin.read()
        ended.set()
    for client in clients:
        client.result()
