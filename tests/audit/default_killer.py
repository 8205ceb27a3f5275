"""Runs auditpartitions again and again, each time killed (SIGKILL) a statement later, until it comes to its end.

    python -m tests.audit.default_killer

Used by test_default_partition.py. Django is loaded once; each run is a fork of this process, which has no connection.
Every second run is killed after its statement, so that what it did in a transaction is done and not committed. After
each kill, it prints how many rows a reader of audit_logs sees, and their digest.
"""

import os
import signal
import sys
from functools import partial

import django

from tests.forks import forked
from tests.migrate_killer import load

ROWS_A_BATCH = 100


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyhub.settings")
    django.setup()
    load()
    number = 0
    while not forked(partial(_run, number // 2 + 1, bool(number % 2)))[0]:
        _tell_rows()
        number += 1
    return 0


def _run(kill_at: int, after: bool, pipe: int) -> None:
    """A run that kills itself before or after its statement number `kill_at`."""
    from django.core.management import call_command
    from django.db import connection

    from audit import default_partition

    default_partition.ROWS_A_BATCH = ROWS_A_BATCH
    statements = 0

    def count_and_kill(execute, sql, params, many, context):
        nonlocal statements
        statements += 1
        if statements == kill_at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = execute(sql, params, many, context)
        if statements == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    connection.execute_wrappers.append(count_and_kill)
    call_command("auditpartitions", verbosity=0)


def _tell_rows() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), sum(hashtextextended(audit_logs::text, 0)::numeric) FROM audit_logs")
        print(*cursor.fetchone())  # noqa: T201
    connection.close()


if __name__ == "__main__":
    sys.exit(main())
