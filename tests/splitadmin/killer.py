"""Runs a way of splitadmin again and again, each time killed (SIGKILL) before another statement, until it is through.

    python -m tests.splitadmin.killer run finish …

Django is loaded once; each run is a fork. Prints the number of kills of each way, as JSON. A statement is known by the
state that it was sent in and its text; of plain reads each eighth is taken, KEYHUB_ALL_KILLS=1 takes all.
"""

import json
import os
import re
import signal
import sys

import django

from tests.forks import forked

EACH = 1 if os.environ.get("KEYHUB_ALL_KILLS") else 8
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
    execute, reads = psycopg.Cursor.execute, 0

    def killing(cursor, query, *arguments, **named):
        nonlocal reads
        text = query if isinstance(query, str) else query.as_string(cursor)
        is_read = bool(READ.match(text))
        reads += is_read
        place = f"{placement._asked.state.step} {' '.join(text.split())}"
        if (not is_read or reads % EACH == 0) and place not in killed:
            os.write(pipe, place.encode() + b"\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(cursor, query, *arguments, **named)

    psycopg.Cursor.execute = killing
    getattr(procedure, way)(lambda line: None)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
