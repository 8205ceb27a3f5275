import argparse
import functools
import inspect
import io
import json
import sys
import types

from django.conf import settings
from django.core.management.base import CommandError, OutputWrapper, no_translations
from django.core.management.commands import migrate as django_migrate
from django.db import DatabaseError, connections
from django.db.migrations.exceptions import InconsistentMigrationHistory

from keyhub import adopt
from keyhub.dbbackup.errors import BackupError
from keyhub.dbversion import version_list
from keyhub.dbversion.database import DatabaseVersion, Plan
from keyhub.durations import parse_duration
from keyhub.lockledger.ledger import LedgerError
from keyhub.migrate.executor import LockNotGotError, LockPolicy, RefusedError, SafeMigrationExecutor
from keyhub.migrate.plan import PlannedStep, PlanningExecutor
from keyhub.migrate.runner_lock import PoolerError, RunnerLockError, only_runner

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_LOCK_NOT_GOT = 4
# The server is shut down or crashed, or has become a standby: nothing of the migration is to be mended.
SERVER_GONE = ("57P", "25006")


def number(kind: type, at_least: float):
    """An argparse type that refuses smaller numbers."""

    def parse(text: str):
        value = kind(text)
        if not value >= at_least:
            raise argparse.ArgumentTypeError(f"{text} is less than {at_least}")
        return value

    parse.__name__ = kind.__name__  # argparse's message names it
    return parse


def duration(text: str):
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class Command(django_migrate.Command):
    help = f"{django_migrate.Command.help} Safe at peak traffic: one runner, short lock_timeout, retries."

    _steps: list[PlannedStep] | None = None

    def add_arguments(self, parser):
        super().add_arguments(parser)
        policy = LockPolicy()
        target = parser.add_mutually_exclusive_group()
        target.add_argument(
            "--to",
            metavar="VERSION",
            help="go up or down to a version: whole, its number, description or place, or zero",
        )
        target.add_argument("--down", type=number(int, at_least=1), metavar="N", help="take back N versions")
        target.add_argument(
            "--adopt", action="store_true", help="first take over a database that golang-migrate made from the design"
        )
        parser.add_argument("--yes", action="store_true", help="go down without asking, whatever is lost")
        parser.add_argument(
            "--require-backup", type=duration, metavar="MAX_AGE",
            help="refuse without a proved backup in BACKUP_URL that is at most so old: 30m, 24h, 7d",
        )  # fmt: skip
        parser.add_argument("--format", choices=("text", "json"), help="how --plan writes the plan (default: text)")
        parser.add_argument(
            "--wait-s", type=number(float, at_least=0), default=600, metavar="SECONDS",
            help="how long to wait for another migrate to end (default: %(default)s)",
        )  # fmt: skip
        parser.add_argument(
            "--lock-timeout-ms", type=number(int, at_least=1), default=policy.lock_timeout_ms, metavar="MILLISECONDS",
            help="how long a statement may wait for a strong lock (default: %(default)s)",
        )  # fmt: skip
        parser.add_argument(
            "--retries", type=number(int, at_least=0), default=policy.retries,
            help="how many times a migration is tried again when it does not get its locks (default: %(default)s)",
        )  # fmt: skip

    def handle(self, *args, **options):
        if options["app_label"] and (options["to"] or options["down"] or options["adopt"]):
            raise CommandError("--to, --down and --adopt are of the whole project: name no app.", returncode=EXIT_USAGE)
        if options["format"] and not options["plan"]:
            raise CommandError("--format is of --plan: add --plan.", returncode=EXIT_USAGE)
        reading = options["plan"] or options["check_unapplied"]
        if reading and options["adopt"]:
            raise CommandError("--adopt changes the database: leave out --plan and --check.", returncode=EXIT_USAGE)
        try:
            if reading:
                self._migrate(*args, **options)
            else:
                with only_runner(connections[options["database"]], options["wait_s"], tell=self.stderr.write):
                    self._migrate(*args, **options)
        except (
            version_list.VersionListError,
            BackupError,
            LedgerError,
            RefusedError,
            PoolerError,
            InconsistentMigrationHistory,
        ) as error:
            raise CommandError(str(error), returncode=EXIT_REFUSED) from error
        except DatabaseError as error:
            sqlstate = getattr(error.__cause__, "sqlstate", None)
            if sqlstate is None or sqlstate.startswith(SERVER_GONE):
                raise  # manage.py tells it
            diagnostics = error.__cause__.diag
            # What a rule of ours refuses says all by itself; of PostgreSQL's own errors the place matters, too.
            words = diagnostics.message_primary if diagnostics.constraint_name else " ".join(str(error).split())
            raise CommandError(
                f"the migration failed: {words.rstrip('.')}. What it did in a transaction is rolled back. "
                "Mend the cause and run this again.",
                returncode=EXIT_REFUSED,
            ) from error
        except (LockNotGotError, RunnerLockError) as error:
            raise CommandError(str(error), returncode=EXIT_LOCK_NOT_GOT) from error

    def _migrate(self, *args, **options) -> None:
        connection, versions = connections[options["database"]], version_list.read()
        if options["require_backup"] is not None:
            self._require_backup(connection, options["require_backup"])
        policy = LockPolicy(options["lock_timeout_ms"], options["retries"])
        if options["adopt"]:
            adopt.adopt(connection, versions, self.stderr.write, policy)
        elif refusal := adopt.refusal_without_adoption(connection):
            raise RefusedError(refusal)
        database = DatabaseVersion(connection, versions)
        # --prune is the way out of one of the refusals.
        refusals = [] if options["prune"] else database.refusals()
        if refusals:
            raise RefusedError("\n".join(refusals))
        plan = self._plan(database, options["to"], options["down"])
        if plan and plan[0][1] and not (options["plan"] or options["check_unapplied"]):
            self._confirm_losses(database, plan, options["yes"])
        executor = functools.partial(
            functools.partial(PlanningExecutor, planned=self._planned) if options["plan"] else SafeMigrationExecutor,
            policy=policy,
            tell=self.stderr.write,
            versions=versions,
            plan=plan,
        )
        if options["format"] == "json":
            self._write_json(executor, *args, **options)
        else:
            self._handle_with(executor, *args, **options)

    def _require_backup(self, connection, oldest) -> None:
        from keyhub.dbbackups import freshness  # brings the stores along, which no other option needs
        from keyhub.store import Store, StoreError

        if not settings.BACKUP_URL:
            raise RefusedError("--require-backup asks where backups are kept: set BACKUP_URL.")
        try:
            newest = freshness.require(Store(settings.BACKUP_URL), connection, oldest)
        except StoreError as error:
            raise RefusedError(str(error)) from error
        self.stderr.write(f"The newest proved backup, {newest.backup.backup}, is {freshness.words(newest.age)} old.")

    def _planned(self, steps: list[PlannedStep]) -> None:
        self._steps = steps
        # Django lists a migration by its operations: what is said of it goes below the last one.
        self._below = {id(step.migration.operations[-1]): step for step in steps if step.migration.operations}

    def describe_operation(self, operation, backwards):
        message, is_error = super().describe_operation(operation, backwards)
        step = self._below.get(id(operation))
        return "\n    ".join([message, *step.lines()] if step else [message]), is_error

    def _write_json(self, executor, *args, **options) -> None:
        document = self.stdout
        self.stdout = OutputWrapper(io.StringIO())  # Django's list
        try:
            self._handle_with(executor, *args, **options)
        finally:
            self.stdout = document
            # With --check it ends by SystemExit.
            if self._steps is not None:
                report = {"database": options["database"], "steps": [step.as_json() for step in self._steps]}
                self.stdout.write(json.dumps(report, ensure_ascii=False))

    def _plan(self, database: DatabaseVersion, to: str | None, down: int | None) -> Plan | None:
        if to == "zero":
            return database.plan_to(None)
        if to:
            return database.plan_to(version_list.find(database.versions, to))
        if down:
            current = database.current.place if database.current else 0
            if down > current:
                raise RefusedError(
                    f"the database is at version {current} of the list: there are no {down} to take back."
                )
            return database.plan_to(database.versions[current - down - 1] if down < current else None)
        return None

    def _confirm_losses(self, database: DatabaseVersion, plan: Plan, yes: bool) -> None:
        SafeMigrationExecutor.refuse_irreversible(plan)
        losses = database.losses(plan)
        for loss in losses:
            self.stderr.write(f"Going down loses {loss}.")
        if not losses or yes:
            return
        if not sys.stdin.isatty():
            raise RefusedError(
                "nobody is there to be asked whether that may be lost. Say --yes, or take a backup first."
            )
        if input("Go down all the same? [y/N] ").strip().lower() not in ("y", "yes"):
            raise RefusedError("not gone down; nothing has changed.")

    @no_translations
    def _handle_with(self, executor, *args, **options) -> None:
        """Run Django's own handle(), which knows its executor as a global name only, with this one under that name."""
        handle = inspect.getclosurevars(django_migrate.Command.handle).nonlocals["handle_func"]
        names = {**vars(django_migrate), "MigrationExecutor": executor}
        types.FunctionType(handle.__code__, names)(self, *args, **options)
