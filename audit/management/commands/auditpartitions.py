import argparse
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from pathlib import Path

from django.conf import settings
from django.core.checks import Tags
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, InternalError, ProgrammingError, connections
from tqdm import tqdm

from audit import archives, auditpartitions, names, retirement, seals
from audit.months import MONTHS_AHEAD, PartitionError
from audit.short_locks import PartitionLockError
from keyhub.store import Store, StoreError

EXIT_REFUSED = EXIT_FAULTS = 1
EXIT_USAGE = 2
EXIT_LOCK_NOT_GOT = 4
EXIT_INTERRUPTED = 130


def whole_number(lowest: int, highest: int, what: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not lowest <= number <= highest:
            raise argparse.ArgumentTypeError(f"{text} is not a number of {what} from {lowest} to {highest}")
        return number

    parse.__name__ = f"number of {what}"
    return parse


class Command(BaseCommand):
    help = "The months of audit_logs: made ahead of time, sealed when they are over, retired, verified."
    # Of the settings and the models: to lint the migrations takes longer than most runs.
    requires_system_checks = [Tags.compatibility, Tags.models]

    def add_arguments(self, parser):
        parser.add_argument(
            "action", nargs="?", choices=("make", "seal", "retire", "verify", "erase"),
            help="make partitions ahead; seal months that are over; retire old ones; verify seals and archives; erase "
            "a person's name. Without one, what is to be done daily: make, and with --retention-months seal and retire",
        )  # fmt: skip
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections))
        parser.add_argument(
            "--ahead", type=whole_number(0, 1200, "months"), default=MONTHS_AHEAD, metavar="MONTHS",
            help="months after the current one that must exist (default: %(default)s)",
        )  # fmt: skip
        parser.add_argument(
            "--retention-months", type=whole_number(1, 1200, "months"), metavar="MONTHS",
            help="months before the current one that stay in audit_logs; older ones are retired",
        )  # fmt: skip
        parser.add_argument(
            "--grace-days", type=whole_number(0, 3650, "days"), default=retirement.GRACE_DAYS, metavar="DAYS",
            help="how long a month that was detached is kept before it is dropped (default: %(default)s)",
        )  # fmt: skip
        parser.add_argument(
            "--archive", metavar="URL", help="where retired months are kept (default: AUDIT_ARCHIVE_URL)"
        )
        parser.add_argument(
            "--against", type=Path, metavar="FILE", help="verify: seals that were kept elsewhere, of --format json"
        )
        parser.add_argument("--user", type=uuid.UUID, metavar="ID", help="erase: the id of the person")
        parser.add_argument("--plan", action="store_true", help="only tell what would be done")
        parser.add_argument("--format", default="text", choices=("text", "json"))

    def handle(self, *, action, **options):
        self._is_for_people = options["format"] == "text"
        try:
            document = self._run(action, **options)
        except PartitionLockError as error:
            raise CommandError(str(error), returncode=EXIT_LOCK_NOT_GOT) from error
        except (PartitionError, archives.ArchiveError, StoreError) as error:
            raise CommandError(str(error), returncode=EXIT_REFUSED) from error
        except (ProgrammingError, InternalError) as error:
            # A missing right, a partition made by hand whose bounds overlap a month's, or a server that only reads.
            undone = {
                "seal": "nothing more could be sealed", "retire": "nothing more could be retired",
                "verify": "nothing verified", "erase": "nothing erased",
            }.get(action, "the partitions could not be made")  # fmt: skip
            raise CommandError(f"{undone}: {' '.join(str(error).split())}", returncode=EXIT_REFUSED) from error
        except KeyboardInterrupt:
            raise CommandError(
                "interrupted; what was finished stays, run it again.", returncode=EXIT_INTERRUPTED
            ) from None
        if not self._is_for_people:
            self.stdout.write(json.dumps(document))
        if document.get("faults"):
            raise SystemExit(EXIT_FAULTS)

    def _run(self, action: str | None, *, retention_months, user, **options) -> dict:
        if (action == "retire") > (retention_months is not None):
            raise CommandError("retire asks how many months stay: --retention-months MONTHS", returncode=EXIT_USAGE)
        if (action == "erase") != (user is not None):
            raise CommandError("erase and --user ID belong together: whose name is to go?", returncode=EXIT_USAGE)
        if options["plan"] and action in ("verify", "erase"):
            raise CommandError(f"--plan is not for {action}, which has nothing to plan.", returncode=EXIT_USAGE)
        match action:
            case "make":
                return self._make(**options)
            case "seal":
                return self._seal(**options)
            case "retire":
                return self._retire(retention_months, **options)
            case "verify":
                return self._verify(**options)
            case "erase":
                return self._erase(user, **options)
        document = self._make(**options)
        if retention_months is not None:
            document |= self._seal(**options)
            # Whatever is to be sealed has been told, or done.
            document |= self._retire(retention_months, without="sealed", **options)
        return document

    def _make(self, *, database: str, ahead: int, plan: bool, **options) -> dict:
        if plan:
            result = auditpartitions.plan(database, ahead)
        else:
            with _bar() as advance:
                result = auditpartitions.make_months(database, ahead, advance)
        for month in result.made:
            rows = result.moved.get(month, 0)
            made, and_moved = (
                ("would be made", f", and about {_count(rows, 'row')} moved from DEFAULT")
                if plan
                else ("made", f", {_count(rows, 'row')} moved from DEFAULT")
            )
            self._tell(f"{month.partition}: {made}{and_moved if rows else ''}")
        if not result.made:
            self._tell(f"Nothing to do: every month up to {result.months_ahead_to} has its partition.")
        made, moved = ("would_make", "would_move") if plan else ("made", "moved")
        return {
            made: [month.partition for month in result.made],
            moved: {month.partition: rows for month, rows in result.moved.items()},
        }

    def _seal(self, *, database: str, plan: bool, **options) -> dict:
        if plan:
            closed = [str(month) for month in seals.closed_months(database)]
            for month in closed:
                self._tell(f"{month}: would be sealed")
            return {"would_seal": closed}
        sealed = []
        with _bar() as advance:
            for seal in seals.seal_months(database, advance):
                sealed.append(seals.exported(seal))
                self._tell(f"{seal}: sealed, {_count(seal.rows, 'row')}")
        if not sealed:
            self._tell("Nothing to do: every month that is over is sealed.")
        return {"sealed": sealed}

    def _retire(
        self, retention_months: int, *, database: str, grace_days: int, archive, plan: bool, without="", **options
    ) -> dict:
        grace = timedelta(days=grace_days)
        steps = []
        with _bar() as advance:
            for step in (
                retirement.plan(database, retention_months, grace)
                if plan
                else retirement.retire(database, _required_store(archive), retention_months, grace, advance)
            ):
                if step.done == without:
                    continue
                steps.append(vars(step))
                done = f"would be {step.done}" if plan else step.done
                self._tell(f"{step.month}: {done}{', ' * bool(step.detail)}{step.detail}")
        if not steps:
            self._tell(f"Nothing to do: no month is older than {_count(retention_months, 'month')}.")
        return {"would_retire" if plan else "retired": steps}

    def _verify(self, *, database: str, against: Path | None, archive, **options) -> dict:
        kept = _kept(against) if against else []
        with _bar() as advance:
            faults = list(
                chain(seals.verify(database, kept, advance), archives.verify(database, _store(archive), advance))
            )
        here = [seals.exported(seal) for seal in seals.AuditSeal.objects.using(database).order_by("number")]
        for fault in faults:
            self._tell(f"{fault.month}: {fault.problem}")
        self._tell(f"{_count(len(here), 'sealed month')}: {_count(len(faults), 'fault') if faults else 'no faults'}")
        return {"seals": here, "faults": [vars(fault) for fault in faults]}

    def _erase(self, user: uuid.UUID, *, database: str, archive, **options) -> dict:
        erased = names.erase_names(database, user_id=user, store=_store(archive))
        self._tell(f"{_count(erased, 'row')}: the name was erased, and from the archives that had it")
        return {"erased": erased}

    def _tell(self, line: str) -> None:
        if self._is_for_people:
            self.stdout.write(line)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _store(url: str | None) -> Store | None:
    url = url or settings.AUDIT_ARCHIVE_URL
    return Store(url) if url else None


def _required_store(url: str | None) -> Store:
    store = _store(url)
    if store is None:
        raise CommandError(
            "it is not said where retired months are kept. Set AUDIT_ARCHIVE_URL, or say it: --archive URL",
            returncode=EXIT_USAGE,
        )
    return store


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
