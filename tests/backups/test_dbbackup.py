"""Making backups, and every way in which it can go wrong: nothing that could pass for a backup, no good one lost."""

import contextlib
import dataclasses
import fcntl
import io
import json
import os
import pty
import stat
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from keyhub import store
from keyhub.dbbackup import archive, manifest
from keyhub.dbbackup.errors import BackupError
from keyhub.dbversion import version_list
from keyhub.durations import parse_duration
from keyhub.store import Store
from tests.backups import Runs, aged, backed_up, digests, fill, new_key, newest, refusal, whole
from tests.backups.object_store import BUCKET, Wire
from tests.conftest import REPOSITORY, database_url
from tests.test_embedded import mounted, needs_mount

# What a backup is


def test_a_backup_is_three_private_files_and_says_what_it_holds(database, url, tmp_path, capsys):
    made = backed_up(url, "--format", "json")
    told = json.loads(capsys.readouterr().out)
    folder = tmp_path / "backups" / made.folder
    assert sorted(path.name for path in folder.iterdir()) == ["dump.pgc.zst", "manifest.json", "roles.sql"]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "backups").rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.parents if tmp_path in path.parents} == {0o700}
    assert made.tables["public.operators"].rows == 1
    assert made.schema_version == str(version_list.read()[-1])
    assert set(made.migrations) >= {"orgs.0001_organizations"} or len(made.migrations) > 20
    assert made.roles == ["keyhub"]
    assert made.unhealthy == []
    assert told["sha256"] == made.parts["dump"].sha256 == digests(folder)["dump.pgc.zst"]
    assert told["rows"] == made.rows == sum(table.rows for table in made.tables.values())
    assert told["proved_at"] is None
    assert "CREATE ROLE keyhub;" in (folder / "roles.sql").read_text()


def test_the_standard_programs_read_it(database, url, tmp_path, server):
    made = backed_up(url)
    stored = (tmp_path / "backups" / made.path("dump")).read_bytes()
    listed = subprocess.run(
        [server.program("pg_restore"), "--list"], input=archive.zstd.decompress(stored), capture_output=True, check=True
    ).stdout.decode()
    assert "TABLE DATA public users" in listed


def test_an_encrypted_one_shows_nothing_to_who_has_not_the_key(database, url, tmp_path, settings):
    settings.BACKUP_RECIPIENTS = [new_key(tmp_path / "key")]
    made = backed_up(url)
    for name in ("dump", "roles"):
        content = (tmp_path / "backups" / made.path(name)).read_bytes()
        assert content.startswith(b"age-encryption.org/v1\n")
        assert b"keyhub" not in content
    assert made.recipients == settings.BACKUP_RECIPIENTS


def test_rows_and_digests_are_of_one_snapshot_though_others_write_meanwhile(database, url, server):
    """Everything is of one snapshot: the proof, which compares each row, finds nothing."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, database_url(server, database)])
    try:
        for _ in range(3):
            assert backed_up(url, "--prove").is_proved
    finally:
        writer.kill()
        writer.wait()


WRITER = """
import sys, psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as client:
    while True:
        client.execute("INSERT INTO users (email) VALUES (gen_random_uuid() || '@example.com')")
        client.execute("DELETE FROM users WHERE ctid = (SELECT min(ctid) FROM users WHERE email LIKE '%-%')")
"""


@pytest.mark.once
def test_into_an_object_store_and_back(database, remote):
    url = f"s3://{BUCKET}/keyhub"
    fill(megabytes=40)  # more than one part
    made = backed_up(url, "--prove")
    assert made.is_proved
    assert made.size_bytes > 2 * store.PART_BYTES
    assert sorted(remote.paths()) == sorted(
        f"keyhub/{made.folder}/{name}" for name in ("dump.pgc.zst", "manifest.json", "roles.sql")
    )
    again = backed_up(url)
    call_command("dbbackups", "prove", again.backup, "--from", url)
    assert [backup.is_proved for backup in whole(url)] == [True, True]
    call_command("dbbackups", "prune", "--from", url, "--days", "0", "--min-proved", "1")
    assert [backup.backup for backup in whole(url)] == [again.backup]
    assert len(remote.paths()) == 3


@pytest.mark.once
def test_progress_on_a_terminal_and_none_in_a_pipe(database, url, server):
    environment = {**os.environ, "DATABASE_URL": database_url(server, database), "BACKUP_URL": url}
    command = [sys.executable, "manage.py", "dbbackup", "--format", "json"]
    piped = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    assert piped.stderr == ""
    json.loads(piped.stdout)
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    on_terminal = subprocess.run(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=end, check=True
    )
    assert b"dump" in os.read(terminal, 10_000)
    os.close(end)
    os.close(terminal)
    json.loads(on_terminal.stdout)


# The five faults of the source's script, and others


def test_a_database_that_does_not_exist(manage, server, url, tmp_path):
    result = manage("dbbackup", "--to", url, database="keyhub_nowhere")
    assert result.returncode == 3
    assert result.stderr.count("\n") == 1
    assert 'database "keyhub_nowhere" does not exist' in result.stderr
    assert not (tmp_path / "backups").exists()


PG_DUMP = """#!/bin/sh
case "$1" in --version) exec {real} --version;; esac
{real} "$@" | head -c 20000
{end}
"""


def with_pg_dump(folder: Path, server, script: str) -> str:
    """A folder of the server's programs with another pg_dump in front of the real one."""
    folder.mkdir()
    real = server.program("pg_dump")
    for program in real.parent.iterdir():
        (folder / program.name).symlink_to(program)
    (folder / "pg_dump").unlink()
    (folder / "pg_dump").write_text(script.replace("{real}", str(real)))
    (folder / "pg_dump").chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("kill -9 $$", "pg_dump was killed by signal 9 before its work was done."),
        ("echo 'pg_dump: error: the server is gone' >&2; exit 1", "pg_dump failed: the server is gone."),
    ],
)
def test_pg_dump_ends_half_way(database, url, tmp_path, manage, server, end, words):
    good = backed_up(url, "--prove")
    before = digests(tmp_path / "backups")
    programs = with_pg_dump(tmp_path / "bin", server, PG_DUMP.replace("{end}", end))
    result = manage("dbbackup", "--to", url, database=database, POSTGRES_BIN=programs)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"CommandError: {words}\n")
    assert digests(tmp_path / "backups") == before
    call_command("dbbackups", "prune", "--from", url, "--days", "0", "--min-proved", "1")
    assert whole(url) == [good]


def test_pg_dump_of_another_version(database, url, tmp_path, manage, server):
    programs = with_pg_dump(tmp_path / "bin", server, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 14.2'\n")
    result = manage("dbbackup", "--to", url, database=database, POSTGRES_BIN=programs)
    major = connection.pg_version // 10_000
    assert result.returncode == 1
    assert result.stderr == (
        f"CommandError: pg_dump of PostgreSQL {major}, as the server is, is not installed here. Install it (Debian: "
        f"postgresql-client-{major}), or set POSTGRES_BIN to the folder of its programs.\n"
    )
    assert not (tmp_path / "backups").exists()


@pytest.mark.once
def test_an_upload_that_is_denied(database, remote):
    good = backed_up(f"s3://{BUCKET}/keyhub")
    remote.ask_for_credentials()
    words = refusal("dbbackup", "--to", f"s3://{BUCKET}/keyhub")
    assert words.startswith(f"s3://{BUCKET}/keyhub did not take {good.database}/")
    assert words.endswith("InvalidAccessKeyId: The AWS Access Key Id you provided does not exist in our records.")


@pytest.mark.once
def test_a_bucket_that_does_not_exist(database, remote):
    assert refusal("dbbackup", "--to", "s3://nowhere").endswith("there is no such bucket. Correct the URL.")


@needs_mount
@pytest.mark.once
def test_a_disk_that_is_full(database, tmp_path):
    folder = tmp_path / "disk"
    with mounted(folder, "size=3m"):
        url = f"file://{folder}/backups"
        good = backed_up(url, "--prove")
        before = digests(folder)
        fill(megabytes=10)
        words = refusal("dbbackup", "--to", url)
        assert "No space left on device" in words
        assert digests(folder) == before
        assert whole(url) == [good]


@pytest.mark.once
def test_a_network_that_is_cut_in_the_middle_of_an_upload(database, remote, monkeypatch):
    monkeypatch.setattr(store, "RETRIES", 1)
    fill(megabytes=40)
    wire = Wire(remote.port, cut_after_bytes=10_000_000)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{wire.port}")
    words = refusal("dbbackup", "--to", f"s3://{BUCKET}/keyhub")
    assert wire.is_cut
    assert words.startswith(f"s3://{BUCKET}/keyhub did not take ")
    assert remote.paths() == []


@pytest.mark.once
@pytest.mark.long
def test_killed_at_twenty_random_moments(database, server, url, tmp_path):
    """Whatever is left behind is no backup, the good one stays, and the next runs are as if nothing had been."""
    fill(megabytes=4)
    good = backed_up(url, "--prove")
    folder = tmp_path / "backups" / good.folder
    before = digests(folder)
    runs = Runs(["dbbackup", "--prove"], DATABASE_URL=database_url(server, database), BACKUP_URL=url)
    killed, tries = 0, 0
    while killed < 20:
        tries += 1
        killed += runs.kill_one(0.2, 0.95)
        assert tries < 60
        for backup in whole(url):
            for name, part in backup.parts.items():
                archive.verify(Store(url), backup.path(name), part.size_bytes, part.sha256)
    assert digests(folder) == before
    assert backed_up(url, "--prove").is_proved
    call_command("dbbackups", "prune", "--from", url, "--days", "0", "--min-proved", "1")


def test_the_last_run_left_its_backup_unfinished(database, url, tmp_path):
    """Nothing is pruned after a failure."""
    good = backed_up(url, "--prove")
    unfinished = (tmp_path / "backups" / good.folder).with_name("29991231T235959Z-abcdef")
    unfinished.mkdir()
    (unfinished / "dump.pgc.zst#1").write_bytes(b"x")
    assert refusal("dbbackups", "prune", "--from", url, "--days", "0", "--min-proved", "1") == (
        "the last backup, 29991231T235959Z-abcdef, is unfinished: its run failed, or is still at work. "
        "Backups go only after a success: make another one first."
    )
    assert whole(url) == [good]


def test_a_table_that_a_migration_holds(database, url, server, monkeypatch):
    monkeypatch.setattr("keyhub.dbbackup.backup.LOCK_WAIT_TIMEOUT_MS", 200)
    with server.connect(database, "keyhub") as other, other.transaction():
        other.execute("LOCK TABLE users")
        words = refusal("dbbackup", "--to", url)
    assert "lock timeout" in words or words.startswith(
        "a session holds a table exclusively for longer than 0.2 seconds"
    )
    assert whole(url) == []


@pytest.mark.parametrize(
    "wrong", ["backups", "/backups", "ftp://host/backups", "file://backups", "s3:///backups", "https://host/backups"]
)
def test_a_url_that_names_no_store(database, wrong):
    assert refusal("dbbackup", "--to", wrong) == (
        f"{wrong!r} names no store. Write file:///folder, s3://bucket/prefix, gs://bucket/prefix or "
        "az://container/prefix."
    )


def test_a_secret_in_a_url_is_not_repeated(database):
    words = refusal("dbbackup", "--to", "s3://key:secret@bucket")
    assert "secret" not in words


def test_a_folder_that_is_a_file(database, tmp_path):
    (tmp_path / "file").write_text("")
    words = refusal("dbbackup", "--to", f"file://{tmp_path}/file/backups")
    assert words == f"the folder {tmp_path}/file/backups cannot be made: Not a directory."


def test_it_is_not_said_where(database):
    words = "it is not said where backups are kept. Set BACKUP_URL, or say it: --to URL"
    assert refusal("dbbackup", code=2) == words


def test_a_recipient_that_is_none(database, url, settings):
    settings.BACKUP_RECIPIENTS = ["age1nobody"]
    assert refusal("dbbackup", "--to", url) == (
        "BACKUP_RECIPIENTS holds 'age1nobody', which is no public key of age. Write age1… or ssh-ed25519 …, "
        "separated by commas."
    )


def test_proving_without_the_private_key_is_refused_before_the_backup(database, url, settings, tmp_path):
    settings.BACKUP_RECIPIENTS = [new_key(tmp_path / "key")]
    assert refusal("dbbackup", "--to", url, "--prove") == (
        "the backup is encrypted, and BACKUP_IDENTITY_FILE is not set. Set it to the file of the private key "
        "(AGE-SECRET-KEY-1… or an OpenSSH key)."
    )
    assert whole(url) == []


def test_drift_is_backed_up_and_told(database, url, capsys):
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX by_hand ON users (name)")
    made = backed_up(url, "--prove")
    assert made.is_proved
    assert "not healthy: keyhub.H" in capsys.readouterr().err


# What migrate and dbhealth make of them


def test_migrate_requires_a_fresh_proved_backup(database, url, settings, server):
    assert refusal("migrate", "--require-backup", "1h") == (
        "--require-backup asks where backups are kept: set BACKUP_URL."
    )
    settings.BACKUP_URL = url
    backed_up(url)
    words = f"{url} has no proved backup of this database. Make one: manage.py dbbackup --prove"
    assert refusal("migrate", "--require-backup", "1h") == words
    proved = backed_up(url, "--prove")
    call_command("migrate", "--require-backup", "1h", verbosity=0)
    aged(url, proved, hours=2)
    assert refusal("migrate", "--require-backup", "1h") == (
        f"the newest proved backup, {newest(url).backup}, is 2 hours old: it may be 1 hour. "
        "Make another one: manage.py dbbackup --prove"
    )


def test_a_proof_that_somebody_else_signed_is_none(database, url, settings):
    backed_up(url, "--prove")
    settings.BACKUP_URL = url
    settings.SECRET_KEY = "another"
    assert not newest(url).is_proved
    assert "has no proved backup" in refusal("migrate", "--require-backup", "1h")
    settings.SECRET_KEY_FALLBACKS = [os.environ["SECRET_KEY"] or "django-insecure-for-development-only"]
    assert newest(url).is_proved


def test_a_proof_is_of_one_backup_alone(database, url):
    proved = backed_up(url, "--prove")
    other = backed_up(url)
    forged = dataclasses.replace(other, proof=proved.proof, signature=proved.signature)
    manifest.write(Store(url), forged)
    assert [backup.is_proved for backup in whole(url)] == [False, True]


@pytest.mark.parametrize("text", ["", "1", "h", "0h", "-1h", "1.5h", "1w", "1 h", "9999999d"])
def test_no_duration(text):
    with pytest.raises(ValueError, match="is no duration: write 30m, 24h or 7d"):
        parse_duration(text)


def health(*options: str) -> list[str]:
    out = io.StringIO()
    with contextlib.suppress(SystemExit):
        call_command("dbhealth", "--format", "json", *options, stdout=out)
    report = json.loads(out.getvalue())
    return [f"{item['id']} {item['problem']}" for item in report["findings"]] + report["notes"]


def test_dbhealth_tells_the_age_of_the_newest_proved_one(database, url, settings):
    only = "--only=keyhub.H050", "--only=keyhub.H051"
    assert health(*only) == []
    settings.BACKUP_URL = url
    assert health(*only) == ["keyhub.H050 no backup of this database is proved"]
    proved = backed_up(url, "--prove")
    assert health(*only) == [f"the newest proved backup, {proved.backup}, is less than a minute old"]
    aged(url, proved, hours=26)
    assert health(*only) == [
        "keyhub.H050 the newest proved backup is 1 day 2 hours old, and may be 1 day 1 hour",
        f"the newest proved backup, {proved.backup}, is 1 day 2 hours old",
    ]
    settings.BACKUP_MAX_AGE = "soon"
    assert health(*only) == ["keyhub.H051 'soon' is no duration: write 30m, 24h or 7d"]
    settings.BACKUP_MAX_AGE, settings.BACKUP_URL = "25h", "ftp://nowhere"
    assert health(*only)[0].startswith("keyhub.H051 'ftp://nowhere' names no store")


def test_another_servers_backups_do_not_count(database, url, settings):
    proved = backed_up(url, "--prove")
    foreign = dataclasses.replace(proved, system_identifier="1234567890123456789")
    manifest.write(Store(url), foreign.with_proof(proved.proof))
    Store(url).delete(f"{proved.folder}/{manifest.FILE}")
    settings.BACKUP_URL = url
    assert "has no proved backup" in refusal("migrate", "--require-backup", "1h")


def test_one_sentence_for_a_store_that_lost_a_part(database, url):
    made = backed_up(url)
    Store(url).delete(made.path("roles"))
    with pytest.raises(BackupError, match=r"has no .*roles.sql, although its manifest names it. Take another backup."):
        archive.verify(Store(url), made.path("roles"), made.parts["roles"].size_bytes, made.parts["roles"].sha256)
