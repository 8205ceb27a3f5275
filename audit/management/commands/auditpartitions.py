import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, InternalError, ProgrammingError, connections
from tqdm import tqdm

from audit import auditpartitions, seals
from audit.months import MONTHS_AHEAD, PartitionError
from audit.short_locks import PartitionLockError

EXIT_FAULTS = 1
EXIT_WRONG_USE = 2
EXIT_LOCK_NOT_GOT = 4
EXIT_INTERRUPTED = 130


def months(text: str) -> int:
    months = int(text)
    if not 0 <= months <= 1200:
        raise argparse.ArgumentTypeError(f"{text} is not a number of months from 0 to 1200")
    return months


class Command(BaseCommand):
    help = "The months of audit_logs: make them ahead (the default), seal those that are over, verify the seals."

    def add_arguments(self, parser):
        parser.add_argument("action", nargs="?", default="make", choices=("make", "seal", "verify"))
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections))
        parser.add_argument(
            "--ahead",
            type=months,
            default=MONTHS_AHEAD,
            metavar="MONTHS",
            help="make: months after the current one that must exist (default: %(default)s)",
        )
        parser.add_argument(
            "--plan", action="store_true", help="make: tell what would be made and moved, and change nothing"
        )
        parser.add_argument(
            "--against", type=Path, metavar="FILE", help="verify: seals that were kept elsewhere, of --format json"
        )
        parser.add_argument("--format", default="text", choices=("text", "json"))

    def handle(self, *, action, database, ahead, plan, against, format, **options):  # noqa: A002 the option's name
        if plan and action != "make":
            raise CommandError(f"--plan is of make: {action} has none.", returncode=EXIT_WRONG_USE)
        try:
            match action:
                case "make" if plan:
                    self._plan(database, ahead, format)
                case "make":
                    self._make(database, ahead, format)
                case "seal":
                    self._seal(database, format)
                case "verify":
                    self._verify(database, against, format)
        except PartitionLockError as error:
            raise CommandError(str(error), returncode=EXIT_LOCK_NOT_GOT) from error
        except PartitionError as error:
            raise CommandError(str(error)) from error
        except (ProgrammingError, InternalError) as error:
            # A missing right, a partition made by hand whose bounds overlap a month's, or a server that only reads.
            done = {"make": "the partitions could not be made", "seal": "nothing more could be sealed"}
            raise CommandError(f"{done.get(action, 'nothing verified')}: {' '.join(str(error).split())}") from error
        except KeyboardInterrupt:
            raise CommandError(
                "interrupted; what was finished stays, run it again.", returncode=EXIT_INTERRUPTED
            ) from None

    def _make(self, database: str, ahead: int, format: str) -> None:  # noqa: A002
        with _bar() as advance:
            result = auditpartitions.make_months(database, ahead, advance)
        if format == "json":
            self._write_json(result, "made", "moved")
            return
        for month in result.made:
            rows = result.moved.get(month, 0)
            self.stdout.write(
                f"{month.partition}: made" + (f", {rows} row{'s' * (rows > 1)} moved from DEFAULT" if rows else "")
            )
        if not result.made:
            self._write_nothing_to_do(result)

    def _plan(self, database: str, ahead: int, format: str) -> None:  # noqa: A002
        result = auditpartitions.plan(database, ahead)
        if format == "json":
            self._write_json(result, "would_make", "would_move")
            return
        for month in result.made:
            rows = result.moved.get(month, 0)
            self.stdout.write(
                f"{month.partition}: would be made"
                + (f", and about {rows} row{'s' * (rows > 1)} moved from DEFAULT" if rows else "")
            )
        if not result.made:
            self._write_nothing_to_do(result)

    def _write_json(self, result: auditpartitions.Result, made: str, moved: str) -> None:
        rows = {month.partition: rows for month, rows in result.moved.items()}
        self.stdout.write(json.dumps({made: [month.partition for month in result.made], moved: rows}))

    def _write_nothing_to_do(self, result: auditpartitions.Result) -> None:
        self.stdout.write(f"Nothing to do: every month up to {result.months_ahead_to} has its partition.")

    def _seal(self, database: str, format: str) -> None:  # noqa: A002
        sealed = []
        with _bar() as advance:
            for seal in seals.seal_months(database, advance):
                sealed.append(seals.exported(seal))
                if format == "text":
                    self.stdout.write(f"{seal}: sealed, {seal.rows} row{'s' * (seal.rows != 1)}")
        if format == "json":
            self.stdout.write(json.dumps({"sealed": sealed}))
        elif not sealed:
            self.stdout.write("Nothing to do: every month that is over is sealed.")

    def _verify(self, database: str, against: Path | None, format: str) -> None:  # noqa: A002
        kept = _kept(against) if against else []
        with _bar() as advance:
            faults = list(seals.verify(database, kept, advance))
        here = [seals.exported(seal) for seal in seals.AuditSeal.objects.using(database).order_by("number")]
        if format == "json":
            self.stdout.write(json.dumps({"seals": here, "faults": [vars(fault) for fault in faults]}))
        else:
            for fault in faults:
                self.stdout.write(f"{fault.month}: {fault.problem}")
            self.stdout.write(f"{len(here)} sealed month{'s' * (len(here) != 1)}: {_count(len(faults), 'fault')}")
        if faults:
            raise SystemExit(EXIT_FAULTS)


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'s' * (number != 1)}"


def _kept(path: Path) -> list[dict]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["seals"]
        return [{name: seal[name] for name in seals.EXPORTED} for seal in kept]
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f"{path} holds no seals. Give the output of auditpartitions verify --format json."
        ) from error


@contextmanager
def _bar() -> Iterator[Callable[[str, int], None]]:
    with tqdm(unit=" rows", disable=None, leave=False, mininterval=0.5) as bar:

        def advance(month: str, rows: int) -> None:
            bar.set_description(month, refresh=False)
            bar.update(rows)

        yield advance
