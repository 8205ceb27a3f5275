"""Looking after backups: what is listed, what is proved, and what goes; never what is somebody else's."""

import dataclasses
import json
import os
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command

from keyhub.dbbackup import manifest
from keyhub.dbbackup.errors import BackupError
from keyhub.dbbackup.manifest import Manifest
from keyhub.dbbackups import prove as proving
from keyhub.dbbackups import retention
from keyhub.dbbackups.retention import Rules
from keyhub.dbversion import version_list
from keyhub.store import Store
from tests.backups import backed_up, digests, new_key, refusal, whole

pytestmark = pytest.mark.once

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def grown_old(url: str, days_ago: list[float], proved: bool = True) -> list[Manifest]:
    """Backups of these ages, copies of a real one and whole each for itself."""
    real, store = whole(url)[0], Store(url)
    made = []
    for number, days in enumerate(days_ago):
        started_at = NOW - timedelta(days=days)
        copy = dataclasses.replace(
            real, backup=f"{started_at:%Y%m%dT%H%M%SZ}-{number:06x}", started_at=started_at, proof=None, signature=""
        )
        for part in real.parts:
            store.put(copy.path(part), store.read(real.path(part)))
        made.append(copy.with_proof(real.proof) if proved else copy)
        manifest.write(store, made[-1])
    return made


@pytest.fixture
def proved(database, url) -> Manifest:
    return backed_up(url, "--prove")


def plan(url: str, real: Manifest, **rules: int) -> retention.Plan:
    return retention.plan(Store(url), real.database, real.system_identifier, Rules(**rules), NOW)


def forget(url: str, *backups: Manifest) -> None:
    for backup in backups:
        for item in Store(url).list(backup.folder):
            Store(url).delete(item.path)


def ages(backups: list[Manifest]) -> list[float]:
    return [(NOW - backup.started_at) / timedelta(days=1) for backup in backups]


def kept_with_reasons(found: retention.Plan) -> list[tuple[float, str]]:
    return [(age, reason) for (backup, reason) in found.kept for age in ages([backup])]


def test_by_days(proved, url):
    grown_old(url, [1, 10, 29, 31, 400])
    forget(url, proved)
    found = plan(url, proved)
    assert ages(found.going) == [31, 400]
    assert [reason for _, reason in found.kept] == ["one of the 3 newest proved"] * 3


def test_by_days_weeks_months_and_years(proved, url):
    grown_old(url, [0.1, 0.2, 1, 2, 9, 16, 40, 70, 330, 700, 1100])
    forget(url, proved)
    found = plan(url, proved, days=0, daily=2, weekly=3, monthly=4, yearly=3, min_proved=1)
    assert dict(kept_with_reasons(found)) == {
        0.1: "one of the 1 newest proved", 1: "daily", 2: "weekly", 9: "weekly", 40: "monthly", 70: "monthly",
        330: "monthly", 700: "yearly",
    }  # fmt: skip
    assert ages(found.going) == [0.2, 16, 1100]


def test_never_below_the_proved_ones_that_must_stay(proved, url):
    grown_old(url, [100, 200, 300])
    grown_old(url, [50, 60], proved=False)
    forget(url, proved)
    found = plan(url, proved, days=0, min_proved=2)
    assert kept_with_reasons(found) == [
        (50, "newer than a proved one that stays"), (60, "newer than a proved one that stays"),
        (100, "one of the 2 newest proved"), (200, "one of the 2 newest proved"),
    ]  # fmt: skip
    assert ages(found.going) == [300]
    with pytest.raises(BackupError, match=r"^3 backups are proved, and 4 must be before one may go"):
        plan(url, proved, min_proved=4)


def test_a_period_is_kept_by_its_proved_one(proved, url):
    grown_old(url, [100.1], proved=False)
    grown_old(url, [0, 100.2])
    forget(url, proved)
    found = plan(url, proved, days=0, monthly=2, min_proved=1)
    assert ages(found.going) == [100.1]


def test_it_deletes_what_the_plan_says_and_nothing_else(proved, url, tmp_path, capsys):
    old = grown_old(url, [1000, 1001])
    folder = tmp_path / "backups"
    foreign = dataclasses.replace(old[0], system_identifier="1234567890123456789")
    other = dataclasses.replace(old[0], database="another")
    for backup in (foreign, other):
        manifest.write(Store(url), backup)
        Store(url).put(backup.path("dump"), b"x")
    stranger = folder / old[0].database / "notes.txt"
    stranger.write_text("of somebody else")
    before = digests(folder)
    command = ["dbbackups", "prune", "--from", url, "--days", "30", "--min-proved", "1"]
    call_command(*command, "--plan", "--format", "json")
    planned = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert digests(folder) == before
    assert planned["gone"] == [backup.backup for backup in old]
    call_command(*command)
    gone = {f"{backup.folder}/{name}" for backup in old for name in ("manifest.json", "dump.pgc.zst", "roles.sql")}
    assert set(before) - set(digests(folder)) == gone
    assert not (folder / old[0].folder).exists()
    call_command(*command)
    assert "Nothing to do" in capsys.readouterr().out


def test_leftovers_go_after_a_day(proved, url, tmp_path):
    (left,) = [(tmp_path / "backups" / proved.folder).with_name("20200101T000000Z-abcdef")]
    left.mkdir()
    part = left / "dump.pgc.zst#1"
    part.write_bytes(b"half")
    command = ["dbbackups", "prune", "--from", url, "--min-proved", "1"]
    call_command(*command)
    assert part.exists()
    os.utime(part, (0, 0))
    call_command(*command)
    assert not left.exists()
    assert whole(url) == [proved]


def test_a_damaged_one_is_shown_and_left(proved, url, tmp_path, capsys):
    (old,) = grown_old(url, [1000])
    path = tmp_path / "backups" / old.folder / manifest.FILE
    path.write_bytes(path.read_bytes().replace(b'"database"', b'"databose"'))
    call_command("dbbackups", "prune", "--from", url, "--min-proved", "1")
    assert f"{old.folder} is damaged, and left for you to look at." in capsys.readouterr().err
    assert path.exists()
    call_command("dbbackups", "list", "--from", url)
    assert f"{old.backup}  DAMAGED" in capsys.readouterr().out


def test_listed(database, url, capsys):
    call_command("dbbackups", "list", "--from", url)
    assert "has no backup of the database" in capsys.readouterr().out
    made = backed_up(url)
    capsys.readouterr()
    call_command("dbbackups", "list", "--from", url)
    line = capsys.readouterr().out
    assert line.startswith(f"{made.backup}  {version_list.read()[-1]}  {made.rows} rows  ")
    assert line.endswith("not proved\n")
    call_command("dbbackups", "list", "--from", url, "--format", "json")
    (told,) = json.loads(capsys.readouterr().out)["backups"]
    assert told["backup"] == made.backup


def test_proving_later_and_elsewhere(database, url, tmp_path, settings, server):
    """On a server that is for proofs alone: it has no roles, and is gone afterwards."""
    settings.BACKUP_RECIPIENTS = [new_key(tmp_path / "key")]
    settings.BACKUP_IDENTITY_FILE = tmp_path / "key"
    made = backed_up(url)
    bin_directory = server.program("postgres").parent
    folder = tmp_path.parent / f"{tmp_path.name}-proofs"
    settings.BACKUP_PROVING_URL = f"embedded://{folder}?bin={bin_directory}"
    call_command("dbbackups", "prove", "latest", "--from", url)
    (proved,) = whole(url)
    assert proved.is_proved
    assert (proved.proof.rows, proved.proof.tables) == (made.rows, len(made.tables))
    assert not (folder / "data" / "postmaster.pid").exists()


def test_a_backup_that_cannot_be_restored_is_not_proved(database, url, server, monkeypatch):
    # A beginning that no other test's proof has: the server is everybody's.
    beginning = f"{database.replace('_', '')}_proof_"
    monkeypatch.setattr(proving, "SCRATCH", beginning)
    made = backed_up(url)
    tables = {**made.tables, "public.users": dataclasses.replace(made.tables["public.users"], rows=99)}
    manifest.write(Store(url), dataclasses.replace(made, tables=tables))
    words = refusal("dbbackups", "prove", "latest", "--from", url)
    assert words == "public.users has 3 rows in the copy, and had 99 when the backup was made."
    assert not whole(url)[0].is_proved
    with server.connect() as admin:
        left = admin.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [beginning]).fetchall()
    assert left == []


@pytest.mark.parametrize("wrong", [["--days", "-1"], ["--min-proved", "0"], ["--weekly", "x"], ["--days", "99999"]])
def test_wrong_use(manage, empty_database, url, wrong):
    result = manage("dbbackups", "prune", "--from", url, *wrong, database=empty_database)
    assert result.returncode == 2
