"""Runs the adoption again and again, each time killed (SIGKILL) before one of its next statements, until it is done.

    python -m tests.adopt.killer SEED

Used by test_adopt.py. Django is loaded once; each run is a fork of this process, which has no connection. Prints how
many runs were killed. The seed says which statements; those that only read are not counted.
"""

import os
import random
import re
import signal
import sys
from functools import partial

import django

from tests.forks import forked
from tests.migrate_killer import load

# Further than the longest transaction has statements: one that is killed each time never ends.
FURTHEST = 256
NEAR = 12
NEAR_RUNS = 12


def main(seed: int) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyhub.settings")
    django.setup()
    load()
    chance = random.Random(seed)  # noqa: S311 the same statements for the same seed
    killed = 0

    def kill_at() -> int:
        return chance.randint(1, NEAR) if killed < NEAR_RUNS else int(FURTHEST ** chance.random())

    while not forked(partial(_run, kill_at()))[0]:
        killed += 1
    print(killed)  # noqa: T201
    return 0


def _run(kill_at: int, pipe: int) -> None:
    """A run that kills itself before its statement number `kill_at`."""
    from django.db import connection

    from keyhub import adopt
    from keyhub.adopt import rebuild
    from keyhub.dbversion import version_list
    from keyhub.migrate.executor import LockPolicy

    rebuild.BLOCKS_PER_BATCH = 5
    converting = False
    statements = 0

    def tell(text: str) -> None:
        nonlocal converting
        converting = converting or "objects differ from" in text

    def count_and_kill(execute, sql, params, many, context):
        nonlocal statements
        if converting and not re.match(r"\s*(SELECT|SET)\b", str(sql)):
            statements += 1
            if statements == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return execute(sql, params, many, context)

    connection.execute_wrappers.append(count_and_kill)
    adopt.adopt(connection, version_list.read(), tell, LockPolicy())


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
