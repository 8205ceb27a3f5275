"""Runs migrate again and again, each time killed (SIGKILL) one statement later, until it has nothing left to do.

    python -m tests.migrate_killer up|down [app]     kills
    python -m tests.migrate_killer watch up|down     does not

Used by test_migrate_killed.py. Django is loaded once; each run is a fork of this process, which has no connection.
Prints, as JSON, the statements before which a run was killed, each with its migration; with `watch` all that it ran.
"""

import gc
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import django

from tests.forks import forked

# Inside a transaction, where every kill leaves the same behind, a run takes each sixteenth statement and the last one;
# of reads outside of one, before which a kill leaves the same behind as before the next write, each sixteenth.
# KEYHUB_ALL_KILLS=1 takes all.
EACH = 1 if os.environ.get("KEYHUB_ALL_KILLS") else 16
LAST_OF_TRANSACTION = "UPDATE keyhub_migrations "
READS = re.compile(r'SELECT (".*" FROM "|set_config\(|FROM keyhub_migrations |indisvalid |to_regclass\()')


class Place(NamedTuple):
    """A statement of a migration ("" between them), told from others of the same text by the one before it."""

    migration: str
    before: str
    sql: str


def main(*arguments: str) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyhub.settings")
    django.setup()
    load()
    if arguments[0] == "down":
        _render_once()
    if arguments[0] == "watch":
        _tell(_run([*arguments[1:]])[1])
        return 0
    killed: Counter[Place] = Counter()
    while True:
        ended, statements = _run([*arguments], killed)
        if ended:
            break
        killed[statements[-1]] += 1
    _tell(killed.elements())
    return 0


def _tell(places: Iterable[Place]) -> None:
    print(json.dumps([(place.migration, place.sql) for place in places if place.migration]))  # noqa: T201


def load() -> None:
    """Load once what each fork would load anew: the command, the migrations, their digests."""
    from django.db.migrations.loader import MigrationLoader

    from keyhub.dbversion.database import current_digest
    from keyhub.management.commands import migrate  # noqa: F401

    for migration in MigrationLoader(connection=None).graph.nodes.values():
        current_digest(migration)
    # A fork that collects would copy the pages of all that is loaded.
    gc.collect()
    gc.freeze()
    gc.disable()


def _render_once() -> None:
    """Render the models before each migration, with which each run on the way down would begin."""
    from django.db.migrations.migration import Migration
    from django.db.migrations.state import ProjectState

    from keyhub.management.commands.migrate import LockPolicy, SafeMigrationExecutor, version_list

    Migration.mutate_state = _remembering(Migration.mutate_state)
    executor = SafeMigrationExecutor(None, policy=LockPolicy(), tell=print, versions=version_list.read())
    state = ProjectState(real_apps=executor.loader.unmigrated_apps)
    state.apps  # noqa: B018 renders it
    for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True):
        state = migration.mutate_state(state)


def _remembering(mutate_state: Callable) -> Callable:
    """Migration.mutate_state, but a state after the same migrations as one of before is that one, which is rendered."""
    states = {}

    def remembering(migration, state, preserve=True):
        known = getattr(state, "migrations", None if state.models else ())
        if known is None:
            return mutate_state(migration, state, preserve)
        migrations = (*known, str(migration))
        if preserve and migrations in states:
            return states[migrations]
        state = mutate_state(migration, state, preserve)
        state.migrations = migrations
        if preserve:
            states[migrations] = state
        return state

    return remembering


def _run(arguments: list[str], killed: Counter[Place] | None = None) -> tuple[bool, list[Place]]:
    """Fork a run; whether it came to its end, and what it ran.

    With `killed` it kills itself at the first place where no run was killed yet: the first time that a run comes there,
    the second time, and so on. So what a rerun leaves out, since it is done, hides nothing.
    """
    ended, told = forked(partial(_child, arguments, killed))
    return ended, [Place(*json.loads(line)) for line in told.splitlines()]


def _child(arguments: list[str], killed: Counter[Place] | None, pipe: int) -> None:
    from django.core.management import call_command
    from django.db import connection

    from keyhub.management.commands import migrate

    seen: Counter[Place] = Counter()
    where, before, in_transaction, reads = "", "", 0, 0

    class Executor(migrate.SafeMigrationExecutor):
        def migrate(self, *args, **kwargs):
            connection.execute_wrappers.append(count_and_kill)
            return super().migrate(*args, **kwargs)

        def apply_migration(self, state, migration, *args, **kwargs):
            with inside(migration):
                return super().apply_migration(state, migration, *args, **kwargs)

        def unapply_migration(self, state, migration, *args, **kwargs):
            with inside(migration):
                return super().unapply_migration(state, migration, *args, **kwargs)

    @contextmanager
    def inside(migration):
        nonlocal where
        where = str(migration)
        yield
        where = ""

    def count_and_kill(execute, sql, params, many, context):
        nonlocal before, in_transaction, reads
        # Savepoints are numbered anew in each run.
        place = Place(where, before if where else "", re.sub(r'"s\d+_x\d+"', "s", str(sql)))
        before = place.sql
        seen[place] += 1
        os.write(pipe, json.dumps(place).encode() + b"\n")
        if connection.in_atomic_block:
            in_transaction += 1
            is_taken = in_transaction % EACH == 0 or place.sql.startswith(LAST_OF_TRANSACTION)
        else:
            in_transaction = 0
            is_read = bool(READS.match(place.sql))
            reads += is_read
            is_taken = not is_read or reads % EACH == 0
        if killed is not None and is_taken and seen[place] > killed[place]:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(sql, params, many, context)

    migrate.SafeMigrationExecutor = Executor
    if killed:
        # It only reads, before anything is killed, and longer than the rest of a run; the first run does it.
        migrate.Command._confirm_losses = lambda *_: None
    direction, *app = arguments
    if app:
        call_command("migrate", *app, *([] if direction == "up" else ["zero"]), verbosity=0)
    else:
        call_command("migrate", verbosity=0, yes=True, to=None if direction == "up" else "zero")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
