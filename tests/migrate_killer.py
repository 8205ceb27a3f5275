"""Runs migrate again and again, each time killed (SIGKILL) one statement later, until it has nothing left to do.

    python -m tests.migrate_killer up|down

Used by test_migrate_killed.py. Django is loaded once; each run is a fork of this process, which has no connection.
Prints how many runs were killed.
"""

import os
import signal
import sys

import django


def main(direction: str) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyhub.settings")
    django.setup()
    killed, kill_at, done_before = 0, 1, _applied()
    while not _run_and_kill(direction, kill_at):
        killed += 1
        done = _applied()
        # The next migration's statements are counted from the start again.
        kill_at = 1 if done != done_before else kill_at + 1
        done_before = done
    print(killed)  # noqa: T201
    return 0


def _run_and_kill(direction: str, kill_at: int) -> bool:
    """Fork a run that kills itself before its statement number `kill_at`; say whether it came to its end."""
    child = os.fork()
    if child == 0:
        os._exit(_child(direction, kill_at))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0, f"migrate exited with {os.WEXITSTATUS(status)}"
    return True


def _child(direction: str, kill_at: int) -> int:
    from django.core.management import call_command
    from django.db import connection
    from django.db.models.signals import pre_migrate

    statements = 0

    def count_and_kill(execute, sql, params, many, context):
        nonlocal statements
        statements += 1
        if statements == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(sql, params, many, context)

    def begin(**kwargs):
        if count_and_kill not in connection.execute_wrappers:
            connection.execute_wrappers.append(count_and_kill)

    pre_migrate.connect(begin)
    call_command("migrate", verbosity=0, yes=True, to=None if direction == "up" else "zero")
    return 0


def _applied() -> int:
    """How many migrations are recorded, asked in a process of its own: this one must have no connection."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('django_migrations') IS NOT NULL")
            if cursor.fetchone()[0]:
                cursor.execute("SELECT count(*) FROM django_migrations")
                os.write(writing, str(cursor.fetchone()[0]).encode())
            else:
                os.write(writing, b"0")
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return int(pipe.read())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
