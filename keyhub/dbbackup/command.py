"""What the commands about backups share: of which databases they speak, the store's URL, the exit codes, one sentence
for an error, progress."""

import contextlib
import json
from collections.abc import Callable, Iterator

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, OperationalError, connections
from tqdm import tqdm

from keyhub import placement
from keyhub.dbbackup.errors import BackupError
from keyhub.dbbackup.manifest import Manifest
from keyhub.dbversion.version_list import VersionListError
from keyhub.migrate.runner_lock import PoolerError
from keyhub.splitadmin.errors import SplitError
from keyhub.store import Store, StoreError

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130


class BackupCommand(BaseCommand):
    """A command about backups; what it is about to say in JSON goes to stdout alone, words for people to stderr."""

    requires_system_checks = []
    _several = False

    def execute(self, *args, **options):
        try:
            with one_sentence():
                return super().execute(*args, **options)
        except KeyboardInterrupt:
            raise CommandError("interrupted; nothing half done was kept.", returncode=EXIT_INTERRUPTED) from None

    def for_each(self, aliases: list[str], action: Callable[[str], None]) -> None:
        """Do something for each of some databases; one that fails keeps no other from its turn.

        Raises CommandError at the end, with a line for each that failed and the greatest of their exit codes.
        """
        self._several, failures = len(aliases) > 1, []
        for alias in aliases:
            try:
                with one_sentence():
                    action(alias)
            except CommandError as error:
                failures.append((self._labelled(alias, str(error)), error.returncode))
        if failures:
            lines, codes = zip(*failures, strict=True)
            raise CommandError("\n".join(lines), returncode=max(codes))

    def tell(self, alias: str, line: str) -> None:
        self.stdout.write(self._labelled(alias, line))

    def warn(self, alias: str, line: str) -> None:
        self.stderr.write(self._labelled(alias, line))

    def write_json(self, alias: str, document: dict) -> None:
        """A line of its own for each database."""
        labelled = {"alias": alias, **document} if self._several else document
        self.stdout.write(json.dumps(labelled, ensure_ascii=False))

    def _labelled(self, alias: str, line: str) -> str:
        return f"{alias}: {line}" if self._several else line

    def store(self, url: str | None) -> Store:
        url = url or settings.BACKUP_URL
        if not url:
            raise CommandError(
                f"it is not said where backups are kept. Set BACKUP_URL, or say it: {self.url_option}",
                returncode=EXIT_USAGE,
            )
        return Store(url)

    url_option = "--from URL"

    @contextlib.contextmanager
    def progress(self) -> Iterator["Bar"]:
        bar = Bar()
        try:
            yield bar
        finally:
            bar.close()


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turn what goes wrong with a backup into a CommandError with its exit code."""
    try:
        yield
    except (BackupError, StoreError, PoolerError, SplitError, VersionListError) as error:
        raise CommandError(str(error), returncode=EXIT_REFUSED) from error
    except (psycopg.OperationalError, OperationalError) as error:
        reason = " ".join(str(error).split())
        raise CommandError(f"the database does not answer: {reason}", returncode=EXIT_UNREACHABLE) from error
    except (psycopg.Error, DatabaseError) as error:
        raise CommandError(" ".join(str(error).split()), returncode=EXIT_REFUSED) from error


def databases(chosen: str | None) -> list[str]:
    """The database that was chosen, by its alias, or all that have a schema.

    Raises DatabaseError where none of them tells.
    """
    if chosen:
        return [chosen]
    try:
        return placement.aliases()
    except DatabaseError:
        # While the tenant database does not answer, the other one can be backed up all the same.
        with contextlib.suppress(DatabaseError):
            if placement.read_state(connections[placement.ADMIN]).is_split:
                return [DEFAULT_DB_ALIAS, placement.ADMIN]
        raise


class Bar:
    """Progress on a terminal; nothing where standard error is none."""

    def __init__(self):
        self._bar: tqdm | None = None

    def begin(self, what: str, total: int) -> None:
        self.close()
        self._bar = tqdm(
            desc=what, total=total or None, unit="B", unit_scale=True, disable=None, leave=False, mininterval=0.5
        )

    def advance(self, size: int) -> None:
        self._bar.update(size)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def as_json(backup: Manifest, store: Store) -> dict:
    """What machines are told of a backup."""
    proof = backup.proof if backup.is_proved else None
    return {
        "backup": backup.backup,
        "url": f"{store.url}/{backup.folder}",
        "database": backup.database,
        "system_identifier": backup.system_identifier,
        "started_at": backup.started_at.isoformat(),
        "finished_at": backup.finished_at.isoformat(),
        "server_version": backup.server_version,
        "schema_version": backup.schema_version,
        "size_bytes": backup.size_bytes,
        "sha256": backup.parts["dump"].sha256,
        "rows": backup.rows,
        "encrypted": bool(backup.recipients),
        "unhealthy": backup.unhealthy,
        "proved_at": proof.proved_at.isoformat() if proof else None,
        "restore_s": proof.restore_s if proof else None,
    }


def size_words(size_bytes: int) -> str:
    return f"{tqdm.format_sizeof(size_bytes, divisor=1000)}B"
