"""Proving a backup: restored into a scratch database, compared, dropped; the result is signed into the manifest."""

import contextlib
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from keyhub.database_url import database_from_url
from keyhub.dbbackup import encryption, manifest
from keyhub.dbbackup.errors import BackupError
from keyhub.dbbackup.manifest import Manifest, Proof
from keyhub.dbrestore import database
from keyhub.dbrestore.restore import Progress, admin_session, restore
from keyhub.store import Store

SCRATCH = "keyhub_proof_"
ABANDONED_AFTER_S = 3600  # without a session


def refuse_unprovable(recipients: list[str]) -> None:
    """Raise BackupError where what is encrypted to these could not be read here: before a backup is made for it."""
    if recipients:
        encryption.decryption()


def prove(store: Store, backup: Manifest, alias: str, progress: Progress | None = None) -> Manifest:
    """Restore a backup where BACKUP_PROVING_URL says, else beside the database; return its manifest with the proof.

    A scratch database that a killed run left behind is dropped by the next one. Raises BackupError; the backup itself
    and an earlier proof of it stay as they are.
    """
    with _proving_server(alias) as connection:
        name = f"{SCRATCH}{int(time.time())}_{secrets.token_hex(4)}"
        try:
            # A server that is for proofs alone has none of the roles.
            restored = restore(
                store, backup, connection, name, create_roles=bool(settings.BACKUP_PROVING_URL), progress=progress
            )
        finally:
            with admin_session(connection) as admin:
                _drop_scratches(admin, name)
    proved = backup.with_proof(
        Proof(
            proved_at=datetime.now(UTC),
            restore_s=restored.restore_s,
            server_version=restored.server_version,
            tables=len(backup.tables),
            rows=backup.rows,
            unhealthy=restored.unhealthy,
        )
    )
    manifest.write(store, proved)
    return proved


@contextlib.contextmanager
def _proving_server(alias: str) -> Iterator[BaseDatabaseWrapper]:
    if not settings.BACKUP_PROVING_URL:
        yield connections[alias]
        return
    try:
        entry = database_from_url(settings.BACKUP_PROVING_URL, "BACKUP_PROVING_URL")
    except ImproperlyConfigured as error:
        raise BackupError(str(error)) from error
    embedded = entry["ENGINE"] == "keyhub.embedded"
    if embedded:
        entry["USER"] = "postgres"  # it must give every object its owner
    complete = connections.configure_settings({"default": entry})["default"]
    wrapper = load_backend(complete["ENGINE"]).DatabaseWrapper(complete, "proving")
    started = embedded and wrapper.server.start()
    try:
        yield wrapper
    finally:
        wrapper.close()
        if started:
            wrapper.server.stop()


def _drop_scratches(admin, name: str) -> None:
    """Drop this run's scratch database, and those that killed runs left behind."""
    rows = admin.execute(
        """
        SELECT datname FROM pg_database
        WHERE starts_with(datname, %s) AND pg_has_role(datdba, 'MEMBER') AND (starts_with(datname, %s)
            OR (to_timestamp(split_part(datname, '_', 3)::bigint) < now() - make_interval(secs => %s)
                AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE pg_stat_activity.datname = pg_database.datname)))
        """,
        [SCRATCH, name, ABANDONED_AFTER_S],
    ).fetchall()
    for (scratch,) in rows:
        database.drop(admin, scratch)
