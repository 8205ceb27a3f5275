import argparse
import functools
import inspect
import io
import json
import sys
import types
from datetime import timedelta

from django.conf import settings
from django.core.management.base import CommandError, OutputWrapper, no_translations
from django.core.management.commands import migrate as django_migrate
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.recorder import MigrationRecorder

from keyhub import adopt, placement
from keyhub.dbbackup.errors import BackupError
from keyhub.dbversion import version_list
from keyhub.dbversion.database import DatabaseVersion, Plan
from keyhub.durations import parse_duration
from keyhub.lockledger.ledger import LedgerError
from keyhub.migrate.executor import LockNotGotError, LockPolicy, RefusedError, SafeMigrationExecutor
from keyhub.migrate.plan import PlannedStep, PlanningExecutor
from keyhub.migrate.runner_lock import PoolerError, RunnerLockError, only_runner
from keyhub.splitadmin.errors import SplitError

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
        parser.set_defaults(database=None)  # all there are
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

    def get_check_kwargs(self, options):
        return {**super().get_check_kwargs(options), "databases": self._databases(options)}

    def handle(self, *args, **options):
        if options["app_label"] and (options["to"] or options["down"] or options["adopt"]):
            raise CommandError("--to, --down and --adopt are of the whole project: name no app.", returncode=EXIT_USAGE)
        if options["format"] and not options["plan"]:
            raise CommandError("--format is of --plan: add --plan.", returncode=EXIT_USAGE)
        reading = options["plan"] or options["check_unapplied"]
        if reading and options["adopt"]:
            raise CommandError("--adopt changes the database: leave out --plan and --check.", returncode=EXIT_USAGE)
        try:
            self._migrate_databases(reading, *args, **options)
        except (
            version_list.VersionListError,
            BackupError,
            LedgerError,
            RefusedError,
            PoolerError,
            InconsistentMigrationHistory,
            SplitError,
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

    def _databases(self, options) -> list[str]:
        return [options["database"]] if options["database"] else placement.aliases()

    def _migrate_databases(self, reading: bool, *args, **options) -> None:
        """Bring the databases to the same version: up, the copies of tables first, so that what arrives finds room."""
        databases, way_back = self._databases(options), None
        if not reading:
            self._refuse_beside_a_move()
        if len(databases) > 1 and (options["to"] or options["down"]):
            way_back = self._way_back(options)
        if options["require_backup"] is not None:
            self._require_backups(databases, options["require_backup"])
        for database in reversed(databases) if way_back else databases:
            one = {**options, "database": database}
            if len(databases) > 1 and options["verbosity"] > 0 and options["format"] != "json":
                self.stdout.write(self.style.MIGRATE_HEADING(f"Database {database}:"))
            if way_back:
                one |= {"to": str(way_back), "down": None}
            if reading:
                self._migrate(*args, **one)
            else:
                with only_runner(connections[database], options["wait_s"], tell=self.stderr.write):
                    is_new = self._is_new(one)
                    self._migrate(*args, **one)
                    if is_new:
                        self._split()

    def _is_new(self, options) -> bool:
        """Whether a run makes the first tables of an installation of two databases, in which nothing has to move."""
        if not placement.has_admin() or options["database"] != DEFAULT_DB_ALIAS or options["app_label"]:
            return False
        is_whole = not (options["to"] or options["down"] or options["adopt"] or options["fake"])
        return is_whole and not MigrationRecorder(connections[DEFAULT_DB_ALIAS]).applied_migrations()

    def _split(self) -> None:
        from keyhub.splitadmin import procedure  # brings the checks of both servers along, which no other run needs

        procedure.run(self.stderr.write)
        procedure.finish(self.stderr.write)

    def _refuse_beside_a_move(self) -> None:
        state = placement.state()
        if state.step != placement.SETTLED:
            raise RefusedError(
                f"a move between the databases is under way ({state.step}), and copies rows as the tables are. End it "
                "(manage.py splitadmin, then manage.py splitadmin --finish), or manage.py splitadmin --rollback."
            )

    def _way_back(self, options) -> version_list.Version | None:
        """The version to go back to, the same one in both databases; None where the way is up."""
        database = DatabaseVersion(connections[DEFAULT_DB_ALIAS], version_list.read())
        plan = self._plan(database, options["to"], options["down"]) or []
        if not any(backwards for _, backwards in plan):
            return None
        if placement.since() & {(migration.app_label, migration.name) for migration, _ in plan}:
            raise RefusedError(
                "the Admin database is one of its own, and that version knows of none. Go back to one database first: "
                "manage.py splitadmin --back."
            )
        gone = {(migration.app_label, migration.name) for migration, _ in plan}
        return version_list.newest_whole(database.versions, database.applied - gone)

    def _migrate(self, *args, **options) -> None:
        connection, versions = connections[options["database"]], version_list.read()
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

    def _require_backups(self, databases: list[str], oldest: timedelta) -> None:
        """Of each database, before the first one is migrated."""
        from keyhub.dbbackups import freshness  # brings the stores along, which no other option needs
        from keyhub.store import Store, StoreError

        if not settings.BACKUP_URL:
            raise RefusedError("--require-backup asks where backups are kept: set BACKUP_URL.")
        refusals = []
        for database in databases:
            label = f"{database}: " if len(databases) > 1 else ""
            try:
                newest = freshness.require(Store(settings.BACKUP_URL), connections[database], oldest)
            except (BackupError, StoreError) as error:
                refusals.append(f"{label}{error}")
            else:
                age = freshness.words(newest.age)
                self.stderr.write(f"{label}The newest proved backup, {newest.backup.backup}, is {age} old.")
        if refusals:
            raise RefusedError("\n".join(refusals))

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
                self.stdout.write(json.dumps(report, ensure_ascii=False))  # with two databases, a line each

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
