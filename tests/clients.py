"""Many clients of one database at once: processes with threads in them, each thread with a connection of its own.

The processes stay for all rounds of a test; they are forks of one that has loaded Django. What a client does is a
function of a test module, named `module:function`.
"""

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

PROCESSES, THREADS = 4, 8
CLIENTS = PROCESSES * THREADS
ISOLATION_LEVELS = ["READ COMMITTED", "REPEATABLE READ"]
WAIT_S = 60  # a client that cannot begin fails the test, and does not hold up the others for ever
SERIALIZATION_FAILURE, DEADLOCK_DETECTED = "40001", "40P01"


class Clients:
    """32 clients that do the same thing, each with its own arguments; a context manager."""

    def __init__(self, database_url: str, function: str, isolation: str):
        pipe = subprocess.PIPE
        environment = {**os.environ, "DATABASE_URL": database_url}
        command = [sys.executable, "-m", "tests.clients", function, isolation]
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> "Clients":
        return self

    def __exit__(self, *_) -> None:
        self._process.communicate()

    def at_once(self, arguments: list[list]) -> list[object]:
        """What each client's function returns; `arguments` has one list for each of them."""
        assert len(arguments) == CLIENTS
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _share_out(function: Callable, isolation: str) -> None:
    """Fork the processes, and give each its part of every line of arguments."""
    fork = multiprocessing.get_context("fork")
    ends = []
    for _ in range(PROCESSES):
        end, other_end = fork.Pipe()
        fork.Process(target=_serve, args=(function, isolation, other_end), daemon=True).start()
        other_end.close()  # so that a process that dies is an EOFError here
        ends.append(end)
    for line in sys.stdin:
        arguments = json.loads(line)
        for number, end in enumerate(ends):
            end.send(arguments[number * THREADS : (number + 1) * THREADS])
        print(json.dumps([outcome for end in ends for outcome in end.recv()]), flush=True)  # noqa: T201
    for end in ends:
        end.send(None)
    for process in multiprocessing.active_children():
        process.join()


def _serve(function: Callable, isolation: str, end: Connection) -> None:
    from django.db import OperationalError, connection, connections
    from psycopg import IsolationLevel

    connections.settings["default"]["OPTIONS"]["isolation_level"] = IsolationLevel[isolation.replace(" ", "_")]
    # The operations lock in one order; only bare SQL may meet a deadlock.
    retried = {SERIALIZATION_FAILURE} | ({DEADLOCK_DETECTED} if function.__name__.endswith("bare_sql") else set())
    together = threading.Barrier(THREADS, timeout=WAIT_S)

    def client(arguments: list) -> object:
        connection.ensure_connection()
        together.wait()
        while True:
            try:
                return function(*arguments)
            except OperationalError as error:
                if error.__cause__.sqlstate not in retried:
                    raise

    with ThreadPoolExecutor(THREADS) as pool:
        while arguments := end.recv():
            end.send(list(pool.map(client, arguments)))


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyhub.settings")
    import django

    django.setup()
    module, _, name = sys.argv[1].partition(":")
    _share_out(getattr(importlib.import_module(module), name), sys.argv[2])
