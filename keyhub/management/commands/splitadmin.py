import functools

import psycopg
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from keyhub.dbversion.version_list import VersionListError
from keyhub.migrate.executor import LockNotGotError, RefusedError
from keyhub.migrate.runner_lock import PoolerError, RunnerLockError, only_runner
from keyhub.placement import ADMIN
from keyhub.splitadmin import plan, procedure
from keyhub.splitadmin.errors import SplitError
from keyhub.splitadmin.record import REVERSIBLE

EXIT_REFUSED = 1
EXIT_UNREACHABLE = 3


class Command(BaseCommand):
    help = "Move organizations, their domains and console sessions into the Admin database, live, or back again."
    requires_system_checks = []

    def add_arguments(self, parser):
        way = parser.add_mutually_exclusive_group()
        way.add_argument(
            "--finish", action="store_true", help="the last step, from which there is no way back but --back"
        )
        way.add_argument("--rollback", action="store_true", help="undo a move that has not come to its last step")
        way.add_argument("--back", action="store_true", help="move everything back into one database")
        way.add_argument("--repair", action="store_true", help="let the tenant database follow the Admin database anew")
        way.add_argument(
            "--restored", choices=(DEFAULT_DB_ALIAS, ADMIN),
            help="as --repair, after this database was restored from a backup: what the other one says counts",
        )  # fmt: skip
        way.add_argument("--plan", action="store_true", help="tell the steps, and how far a move is")
        parser.add_argument(
            "--wait-s", type=float, default=0, metavar="SECONDS",
            help="how long to wait for a migrate or another splitadmin to end (default: %(default)s)",
        )  # fmt: skip

    def handle(self, *, wait_s, **options):
        try:
            if options["plan"]:
                self.stdout.write("\n".join(plan.lines(procedure.state())))
                return
            procedure.state()  # without a second database there is nothing to lock
            with only_runner(connections[DEFAULT_DB_ALIAS], wait_s, tell=self.stderr.write):
                self._run(options)
        except (SplitError, RefusedError, LockNotGotError, RunnerLockError, PoolerError, VersionListError) as error:
            raise CommandError(str(error), returncode=EXIT_REFUSED) from error
        except (psycopg.Error, DatabaseError) as error:
            reason = " ".join(str(error).split())
            cause = error if isinstance(error, psycopg.Error) else error.__cause__
            if isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None:  # nobody answered
                sentence = f"a database cannot be reached: {reason} Run this again when it answers."
                raise CommandError(sentence, returncode=EXIT_UNREACHABLE) from error
            raise CommandError(f"{reason}. Mend the cause and run this again.", returncode=EXIT_REFUSED) from error

    def _run(self, options) -> None:
        restored = options["restored"]
        ways = {
            "finish": procedure.finish,
            "rollback": procedure.rollback,
            "back": procedure.back,
            "repair": procedure.repair,
            "restored": functools.partial(procedure.repair, restored=restored),
        }
        way = next((ways[name] for name in ways if options[name]), procedure.run)
        state = way(self.stderr.write)
        self.stdout.write(f"{procedure.words(state)[0].upper()}{procedure.words(state)[1:]}.")
        if state.step == REVERSIBLE:
            self.stdout.write("The last step, when all is well: manage.py splitadmin --finish. Or: --rollback.")
