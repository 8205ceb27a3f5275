"""Runs migrate again and again, each time killed (SIGKILL) one statement later, until it has nothing left to do.

    python -m tests.migrate_killer up|down [app]     kills
    python -m tests.migrate_killer watch up|down     does not

Used by test_migrate_killed.py. Django is loaded once; each run is a fork of this process, which has no connection.
Prints, as JSON, the statements of migrations before which a run was killed; with `watch` those that it would be.
"""

import json
import os
import re
import signal
import sys
from contextlib import contextmanager

import django


def main(*arguments: str) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyhub.settings")
    django.setup()
    load()
    if arguments[0] == "watch":
        print(json.dumps(_run_and_kill([*arguments[1:]], None)[1]))  # noqa: T201
        return 0
    killed, kill_at, done_before, first = [], 1, _applied(), True
    while True:
        ended, statements = _run_and_kill([*arguments], kill_at, first)
        if ended:
            break
        killed += statements[-1:]
        done = _applied()
        # From the start again with the first statement of a migration, and with the next one's.
        kill_at = 1 if done != done_before or (first and statements) else kill_at + 1
        first = first and not statements
        done_before = done
    print(json.dumps(killed))  # noqa: T201
    return 0


def load() -> None:
    """Load once what each fork would load anew: the command, the migrations, their digests."""
    from django.db.migrations.loader import MigrationLoader

    from keyhub.dbversion.database import current_digest
    from keyhub.management.commands import migrate  # noqa: F401

    for migration in MigrationLoader(connection=None).graph.nodes.values():
        current_digest(migration)


def _run_and_kill(arguments: list[str], kill_at: int | None, first: bool = False) -> tuple[bool, list[str]]:
    """Fork a run that kills itself before its statement number `kill_at`; whether it came to its end, and what it ran.

    Counted are the statements of migrations and those after the last one; in the `first` runs those before, too.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os._exit(_child(arguments, kill_at, first, writing))
    os.close(writing)
    with os.fdopen(reading) as pipe:
        statements = [json.loads(line) for line in pipe]
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False, statements
    assert os.WEXITSTATUS(status) == 0, f"migrate exited with {os.WEXITSTATUS(status)}"
    return True, statements


def _child(arguments: list[str], kill_at: int | None, first: bool, pipe: int) -> int:
    from django.core.management import call_command
    from django.db import connection

    from keyhub.management.commands import migrate

    count, counting, in_migration = 0, first, False

    class Executor(migrate.SafeMigrationExecutor):
        def migrate(self, *args, **kwargs):
            nonlocal counting
            connection.execute_wrappers.append(count_and_kill)
            state = super().migrate(*args, **kwargs)
            counting = True
            return state

        def apply_migration(self, *args, **kwargs):
            with migration():
                return super().apply_migration(*args, **kwargs)

        def unapply_migration(self, *args, **kwargs):
            with migration():
                return super().unapply_migration(*args, **kwargs)

    @contextmanager
    def migration():
        nonlocal counting, in_migration
        counting = in_migration = True
        yield
        in_migration = False

    def count_and_kill(execute, sql, params, many, context):
        nonlocal count
        if counting:
            count += 1
            if in_migration:
                # Savepoints are numbered anew in each run.
                os.write(pipe, json.dumps(re.sub(r'"s\d+_x\d+"', "s", str(sql))).encode() + b"\n")
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return execute(sql, params, many, context)

    migrate.SafeMigrationExecutor = Executor
    direction, *app = arguments
    if app:
        call_command("migrate", *app, *([] if direction == "up" else ["zero"]), verbosity=0)
    else:
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
    sys.exit(main(*sys.argv[1:]))
