import argparse
import json
from collections import Counter

from django.core.checks import Tags
from django.core.management.base import BaseCommand, CommandError
from django.db import InternalError, ProgrammingError, connections
from tqdm import tqdm

from auth_sessions import purgeexpired

EXIT_LOCK_NOT_GOT = 4
EXIT_INTERRUPTED = 130


def days(text: str) -> int:
    days = int(text)
    if not 0 <= days <= 36_500:
        raise argparse.ArgumentTypeError(f"{text} is not a number of days from 0 to 36500")
    return days


class Command(BaseCommand):
    help = "Delete sessions, sign-ins under way and console sessions that have ended."
    # Of the settings and the models: to lint the migrations takes longer than most runs.
    requires_system_checks = [Tags.compatibility, Tags.models]

    def add_arguments(self, parser):
        parser.add_argument("--database", choices=tuple(connections), help="what is written in this one alone")
        parser.add_argument(
            "--keep-days",
            type=days,
            default=purgeexpired.KEEP_DAYS,
            metavar="DAYS",
            help="keep sessions for so long after they ended (default: %(default)s)",
        )
        parser.add_argument("--plan", action="store_true", help="count what would be deleted, and delete nothing")
        parser.add_argument("--format", default="text", choices=("text", "json"))

    def handle(self, *, database, keep_days, plan, format, **options):  # noqa: A002 the option's name
        purge = purgeexpired.Purge(database, keep_days)
        deleted = Counter(dict.fromkeys(purge.tables(), 0))
        try:
            if plan:
                self._tell("would be deleted", purge.planned(), format)
                return
            self._run(purge, deleted)
        except purgeexpired.PurgeLockError as error:
            raise CommandError(str(error), returncode=EXIT_LOCK_NOT_GOT) from error
        except purgeexpired.PurgeError as error:
            raise CommandError(str(error)) from error
        except (ProgrammingError, InternalError) as error:
            # A missing right, tables that do not exist yet, or a server that only reads.
            raise CommandError(f"nothing more could be deleted: {' '.join(str(error).split())}") from error
        except KeyboardInterrupt:
            done = f"{deleted.total()} rows were deleted, the rest stays for the next run."
            raise CommandError(f"interrupted; {done}", returncode=EXIT_INTERRUPTED) from None
        self._tell("deleted", deleted, format)

    def _run(self, purge: purgeexpired.Purge, deleted: Counter) -> None:
        with tqdm(unit=" rows", disable=None, leave=False, mininterval=0.5) as bar:
            if not bar.disable:  # a terminal
                bar.reset(sum(purge.planned().values()))

            def advance(table: str, rows: int) -> None:
                deleted[table] += rows
                bar.set_description(table, refresh=False)
                bar.update(rows)

            purge.run(advance)

    def _tell(self, what: str, counts: dict[str, int], format: str) -> None:  # noqa: A002
        if format == "json":
            self.stdout.write(json.dumps({what.replace(" ", "_"): dict(counts)}))
            return
        for table, rows in counts.items():
            self.stdout.write(f"{table}: {rows} row{'s' * (rows != 1)} {what}")
