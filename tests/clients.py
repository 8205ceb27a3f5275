"""Many clients of one database at once: processes with threads in them, each thread with a connection of its own.

The processes stay for all rounds of a test. What a client does is a function of a test module, named `module:function`.
"""

import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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
        self._processes = [
            subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) for _ in range(PROCESSES)
        ]

    def __enter__(self) -> "Clients":
        return self

    def __exit__(self, *_) -> None:
        for process in self._processes:
            process.communicate()

    def at_once(self, arguments: list[list]) -> list[object]:
        """What each client's function returns; `arguments` has one list for each of them."""
        assert len(arguments) == CLIENTS
        for number, process in enumerate(self._processes):
            process.stdin.write(json.dumps(arguments[number * THREADS : (number + 1) * THREADS]) + "\n")
        for process in self._processes:
            process.stdin.flush()
        return [outcome for process in self._processes for outcome in json.loads(process.stdout.readline())]


def _serve(function: Callable, isolation: str) -> None:
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
        for line in sys.stdin:
            sys.stdout.write(json.dumps(list(pool.map(client, json.loads(line)))) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyhub.settings")
    import django

    django.setup()
    module, _, name = sys.argv[1].partition(":")
    _serve(getattr(importlib.import_module(module), name), sys.argv[2])
