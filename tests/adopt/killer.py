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

import django

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
    while not _run_and_kill(chance.randint(1, NEAR) if killed < NEAR_RUNS else int(FURTHEST ** chance.random())):
        killed += 1
    print(killed)  # noqa: T201
    return 0


def _run_and_kill(kill_at: int) -> bool:
    """Fork a run that kills itself before its statement number `kill_at`; say whether it came to its end."""
    child = os.fork()
    if child == 0:
        os._exit(_child(kill_at))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0, f"the adoption exited with {os.WEXITSTATUS(status)}"
    return True


def _child(kill_at: int) -> int:
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
    try:
        adopt.adopt(connection, version_list.read(), tell, LockPolicy())
    except Exception as error:  # noqa: BLE001 a fork must not return into its parent's code
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
