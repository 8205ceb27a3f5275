"""What the commands about backups share: the store's URL, the exit codes, one sentence for an error, progress."""

import contextlib
import json
from collections.abc import Iterator

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, OperationalError
from tqdm import tqdm

from keyhub.dbbackup.errors import BackupError
from keyhub.dbbackup.manifest import Manifest
from keyhub.dbversion.version_list import VersionListError
from keyhub.migrate.runner_lock import PoolerError
from keyhub.store import Store, StoreError

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130


class BackupCommand(BaseCommand):
    """A command about backups; what it is about to say in JSON goes to stdout alone, words for people to stderr."""

    requires_system_checks = []

    def execute(self, *args, **options):
        try:
            return super().execute(*args, **options)
        except (BackupError, StoreError, PoolerError, VersionListError) as error:
            raise CommandError(str(error), returncode=EXIT_REFUSED) from error
        except (psycopg.OperationalError, OperationalError) as error:
            reason = " ".join(str(error).split())
            raise CommandError(f"the database does not answer: {reason}", returncode=EXIT_UNREACHABLE) from error
        except (psycopg.Error, DatabaseError) as error:
            raise CommandError(" ".join(str(error).split()), returncode=EXIT_REFUSED) from error
        except KeyboardInterrupt:
            raise CommandError("interrupted; nothing half done was kept.", returncode=EXIT_INTERRUPTED) from None

    def store(self, url: str | None) -> Store:
        url = url or settings.BACKUP_URL
        if not url:
            raise CommandError(
                f"it is not said where backups are kept. Set BACKUP_URL, or say it: {self.url_option}",
                returncode=EXIT_USAGE,
            )
        return Store(url)

    url_option = "--from URL"

    def write_json(self, document: object) -> None:
        self.stdout.write(json.dumps(document, ensure_ascii=False))

    @contextlib.contextmanager
    def progress(self) -> Iterator["Bar"]:
        bar = Bar()
        try:
            yield bar
        finally:
            bar.close()


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
