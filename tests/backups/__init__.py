"""What the tests of dbbackup, dbrestore and dbbackups share: a database with people in it, and its backups."""

import dataclasses
import functools
import hashlib
import io
import os
import random
import signal
import time
from datetime import timedelta
from pathlib import Path

import pyrage
import pytest
from django.contrib.auth.hashers import make_password
from django.core.management import CommandError, call_command
from django.db import connection

from keyhub.dbbackup import manifest
from keyhub.dbbackup.manifest import Manifest
from keyhub.store import Store
from tests.factories import (
    AuditLogFactory,
    OperatorFactory,
    SessionFactory,
    TenantMembershipFactory,
    UserIdentityFactory,
)
from tests.processes import Run

PASSWORD = "correct horse battery staple"
# Random, so that it is not smaller in a backup: in rows of any table that has a long text.
FILL = """
    INSERT INTO organizations (id, name, slug, settings)
    SELECT 'FILL-' || n, 'Fill', 'fill-' || n,
        jsonb_build_object('note',
            (SELECT string_agg(gen_random_uuid()::text, '') FROM generate_series(1, 600 + n % 2)))
    FROM generate_series(1, %s) n
"""


@functools.cache
def _hashed_password() -> str:
    """Made to take a while, and needed by every test."""
    return make_password(PASSWORD)


def people() -> None:
    """A few rows of most tables, in the database that Django is connected to."""
    OperatorFactory(email="alice@keyhub.test", is_superuser=True, password=_hashed_password())
    for membership in TenantMembershipFactory.create_batch(3):
        UserIdentityFactory(user=membership.user)
        SessionFactory(user=membership.user)
        AuditLogFactory(tenant_id=membership.tenant_id, user_id=membership.user_id, actor_label="bob, \t \\. and 山田")


def fill(megabytes: int) -> None:
    """Add about so many megabytes that do not compress to much less than their half."""
    with connection.cursor() as cursor:
        cursor.execute(FILL.replace("%s", str(megabytes * 46)))


def backed_up(url: str, *options: str) -> Manifest:
    """Back up the database that Django is connected to, by the command."""
    before = {backup.backup for backup in whole(url)}
    call_command("dbbackup", "--to", url, *options)
    (made,) = [backup for backup in whole(url) if backup.backup not in before]
    return made


def both_backed_up(url: str, *options: str) -> dict[str, Manifest]:
    """Back up both databases by one command, and return the backup of each by its alias."""
    before = {backup.backup for backup in whole(url)}
    call_command("dbbackup", "--to", url, *options)
    made = {backup.alias: backup for backup in whole(url) if backup.backup not in before}
    assert len(made) == 2
    return made


def aged(url: str, backup: Manifest, hours: float) -> None:
    """Make a backup older, as if it had been proved then."""
    older = dataclasses.replace(backup, started_at=backup.started_at - timedelta(hours=hours))
    manifest.write(Store(url), older.with_proof(older.proof) if older.proof else older)


def said(*arguments: str) -> list[str]:
    """What a command writes, line by line."""
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue().splitlines()


def newest(url: str) -> Manifest:
    (found, *_) = whole(url)
    return found


def whole(url: str) -> list[Manifest]:
    """What counts as a backup, newest first; that of a test's only database."""
    store = Store(url)
    paths = {item.path.split("/")[0] for item in store.list("")}
    return [
        item for path in paths for item in manifest.survey(store, path) if isinstance(item, Manifest)
    ]  # fmt: skip


def refusal(*arguments: str, code: int = 1) -> str:
    """What a command says when it refuses, which is one line, with this exit code."""
    (line,) = refusals(*arguments, code=code)
    return line


def refusals(*arguments: str, code: int = 1) -> list[str]:
    with pytest.raises(CommandError) as caught:
        call_command(*arguments)
    assert caught.value.returncode == code
    return str(caught.value).splitlines()


class Runs:
    """Runs of a command of manage.py, each a process of its own; the first one, unharmed, tells how long they take."""

    def __init__(self, arguments: list[str], **environment: str):
        self._arguments, self._environment = arguments, {**os.environ, **environment}
        started_at = time.monotonic()
        self._start().completed().check_returncode()
        self._whole_s = time.monotonic() - started_at

    def _start(self) -> Run:
        return Run(*self._arguments, env=self._environment)

    def kill_one(self, earliest: float, latest: float) -> bool:
        """Kill a run at a random moment between two parts of its length; whether it had not ended yet."""
        process = self._start()
        waited_s = random.uniform(earliest, latest) * self._whole_s  # noqa: S311
        time.sleep(waited_s)
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            return True
        self._whole_s = waited_s  # the machine has less to do than when the first one ran
        return False


def digests(folder: Path) -> dict[str, str]:
    """Every file below a folder with its digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def new_key(path: Path) -> str:
    """Write a private key of age, and return the public one."""
    identity = pyrage.x25519.Identity.generate()
    path.write_text(f"# a comment, as age-keygen writes one\n{identity}\n")
    return str(identity.to_public())
