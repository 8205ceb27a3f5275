import argparse
import json

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, InternalError, ProgrammingError, connections

from audit import auditpartitions

EXIT_LOCK_NOT_GOT = 4


def months(text: str) -> int:
    months = int(text)
    if not 0 <= months <= 1200:
        raise argparse.ArgumentTypeError(f"{text} is not a number of months from 0 to 1200")
    return months


class Command(BaseCommand):
    help = "Make the monthly partitions of audit_logs ahead of time, and move rows out of the DEFAULT one."

    def add_arguments(self, parser):
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections))
        parser.add_argument(
            "--ahead",
            type=months,
            default=auditpartitions.MONTHS_AHEAD,
            metavar="MONTHS",
            help="months after the current one that must exist (default: %(default)s)",
        )
        parser.add_argument("--format", default="text", choices=("text", "json"))

    def handle(self, *, database, ahead, format, **options):  # noqa: A002 the option's name
        try:
            result = auditpartitions.make_months(database, ahead)
        except auditpartitions.PartitionLockError as error:
            raise CommandError(str(error), returncode=EXIT_LOCK_NOT_GOT) from error
        except auditpartitions.PartitionError as error:
            raise CommandError(str(error)) from error
        except (ProgrammingError, InternalError) as error:
            # A missing right, a partition made by hand whose bounds overlap a month's, or a server that only reads.
            raise CommandError(f"the partitions could not be made: {' '.join(str(error).split())}") from error
        if format == "json":
            moved = {month.partition: rows for month, rows in result.moved.items()}
            self.stdout.write(json.dumps({"made": [month.partition for month in result.made], "moved": moved}))
            return
        for month in result.made:
            rows = result.moved.get(month, 0)
            self.stdout.write(
                f"{month.partition}: made" + (f", {rows} row{'s' * (rows > 1)} moved from DEFAULT" if rows else "")
            )
        if not result.made:
            self.stdout.write(f"Nothing to do: every month up to {result.months_ahead_to} has its partition.")
