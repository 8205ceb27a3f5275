"""Runs a way of splitadmin again and again, each time killed (SIGKILL) before another statement, until it is through.

    python -m tests.splitadmin.killer run finish …

Django is loaded once; each run is a fork. Prints the number of kills of each way, as JSON. A statement is known by the
state that it was sent in and its text; of plain reads each twelfth is taken, of others each fourth, and with
KEYHUB_ALL_KILLS=1 all.
"""

import json
import os
import re
import signal
import sys

import django

from tests.forks import forked

ALL = bool(os.environ.get("KEYHUB_ALL_KILLS"))
EACH_READ, EACH_WRITE = (1, 1) if ALL else (12, 4)
SNAPSHOT = re.compile(r"'[0-9A-F]{8}-[0-9A-F]{8}-\d+'")  # another one in each run
READ = re.compile(r"\s*(SELECT (?!pg_|set_config)|SHOW )")


def main(*ways: str) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyhub.settings")
    django.setup()
    counts = {}
    for way in ways:
        killed: set[str] = set()
        while True:
            ended, told = forked(lambda pipe, way=way, killed=killed: _child(way, killed, pipe))
            if ended:
                break
            killed.add(told.decode().splitlines()[-1])
        counts[way] = len(killed)
    print(json.dumps(counts))  # noqa: T201
    return 0


def _child(way: str, killed: set[str], pipe: int) -> None:
    import psycopg

    from keyhub import placement
    from keyhub.splitadmin import procedure

    procedure.LAST_READERS_S = 0
    execute, seen = psycopg.Cursor.execute, {True: 0, False: 0}

    def killing(cursor, query, *arguments, **named):
        text = query if isinstance(query, str) else query.as_string(cursor)
        is_read = bool(READ.match(text))
        seen[is_read] += 1
        place = f"{placement._asked.state.step} {' '.join(SNAPSHOT.sub('', text).split())}"
        if seen[is_read] % (EACH_READ if is_read else EACH_WRITE) == 0 and place not in killed:
            os.write(pipe, place.encode() + b"\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(cursor, query, *arguments, **named)

    psycopg.Cursor.execute = killing
    getattr(procedure, way)(lambda line: None)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
