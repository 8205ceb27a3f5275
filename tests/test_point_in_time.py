"""Recovery to a moment by pgBackRest, with the files of docs/point-in-time: a real server, repository and disaster."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from keyhub.embedded import EmbeddedServer, as_root

FILES = Path(__file__).parents[1] / "docs/point-in-time"

pytestmark = [
    pytest.mark.database,
    pytest.mark.skipif(shutil.which("pgbackrest") is None, reason="pgBackRest is not installed"),
]


@dataclass(frozen=True)
class Site:
    """A server that archives into a repository."""

    server: EmbeddedServer
    folder: Path

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def identity(self) -> dict:
        return as_root.identity(self.server.folder.stat().st_uid) if os.geteuid() == 0 else {}

    @property
    def url(self) -> str:
        return f"postgres:///keyhub?host={self.server.socket_directory}&user=postgres"

    def own_folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        shutil.chown(folder, self.server.folder.owner())
        return folder

    def configure(self) -> None:
        passphrase = "correct horse battery staple"
        self.fill("pgbackrest.conf", passphrase=passphrase, repository=self.own_folder("repository"))
        self.fill("postgresql.conf")
        self.own_folder("lock")
        self.server.stop()
        with (self.server.data_directory / "postgresql.conf").open("a") as file:
            file.write(f"include '{self.folder}/postgresql.conf'\n")
        self.server.start()

    def fill(self, name: str, **values) -> None:
        """Replace what stands in <>; an unknown one is a KeyError."""
        values["configuration"] = self.folder / "pgbackrest.conf"
        values["data directory"] = self.server.data_directory
        values["socket directory"] = self.server.socket_directory
        head, *settings = (FILES / name).read_text().partition("\n\n")
        text = head + re.sub("<(.+?)>", lambda match: str(values[match[1]]), "".join(settings))
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o644)

    def environment(self, repository: Path | None = None) -> dict:
        return {
            **os.environ,
            "PGBACKREST_REPO1_PATH": str(repository or self.repository),
            "PGBACKREST_LOCK_PATH": str(self.folder / "lock"),
            "PGBACKREST_SPOOL_PATH": str(self.folder / "spool"),
            "PGBACKREST_JOB_RETRY": "0",  # else it tries what is damaged again after 15 s
        }

    def pgbackrest(self, *arguments: str, repository: Path | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["pgbackrest", f"--config={self.folder}/pgbackrest.conf", "--stanza=keyhub", *arguments],
            cwd="/",
            env=self.environment(repository),
            capture_output=True,
            text=True,
            check=False,
            **self.identity,
        )

    def script(self, name: str, *arguments: str, repository: Path | None = None) -> tuple[int, str, str]:
        result = subprocess.run(
            [sys.executable, "-W", "error", FILES / name, f"--config={self.folder}/pgbackrest.conf", *arguments],
            env=self.environment(repository),
            capture_output=True,
            text=True,
            check=False,
        )
        return result.returncode, result.stdout, result.stderr

    def prove(self, *arguments: str, repository: Path | None = None) -> tuple[int, str, str]:
        place = [f"--bin={self.server.program('postgres').parent}", f"--user={self.server.folder.owner()}"]
        return self.script("prove", *place, f"--scratch={self.folder}", *arguments, repository=repository)

    def done(self, *arguments: str) -> None:
        result = self.pgbackrest(*arguments)
        assert (result.returncode, result.stderr) == (0, "")

    def copied(self, repository: Path, name: str) -> Path:
        """A copy whose files are links: they are replaced, never written to."""
        copy = Path(shutil.copytree(repository, self.folder / name, copy_function=os.link))
        for path in (copy, *copy.glob("**/")):
            shutil.chown(path, self.server.folder.owner())
        return copy


def skip_unless_supported(server: EmbeddedServer, folder: Path) -> None:
    """By asking pgBackRest about the data directory of the server of all tests."""
    asked = Site(server, folder)
    repository = asked.own_folder("asked")
    result = subprocess.run(
        ["pgbackrest", "--no-config", "--stanza=asked", "stanza-create", "--no-online", "--log-level-file=off"],
        env={
            "PGBACKREST_PG1_PATH": str(server.data_directory),
            "PGBACKREST_REPO1_PATH": str(repository),
            "PGBACKREST_LOCK_PATH": str(repository),
            "PATH": os.defpath,
        },
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        **asked.identity,
    )
    if "is this version of PostgreSQL supported?" in result.stdout + result.stderr:
        pytest.skip("the installed pgBackRest does not support the PostgreSQL of this run")
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def site(server) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="keyhub-moment-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        skip_unless_supported(server, folder)
        own = EmbeddedServer(folder / "server", server.bin_directory)
        own.start()
        site = Site(own, folder)
        try:
            site.configure()
            site.done("stanza-create")
            subprocess.run(
                [sys.executable, "manage.py", "migrate", "--verbosity=0"],
                cwd=FILES.parents[1],
                env={**os.environ, "DATABASE_URL": site.url.replace("user=postgres", "user=keyhub")},
                check=True,
            )
            site.done("backup", "--type=full")
            for _ in range(3):
                site.done("check")  # fills a segment, and waits until it is in the repository
            site.copied(site.repository, "sound")
            yield site
        finally:
            own.stop()


@pytest.fixture
def copy(site) -> Iterator[Path]:
    """A repository of one backup and the WAL of one timeline, to be damaged."""
    yield site.copied(site.folder / "sound", "copy")
    shutil.rmtree(site.folder / "copy")


def segments(repository: Path, timeline: str = "0000000?") -> list[Path]:
    return sorted(repository.glob(f"archive/keyhub/*/{timeline}00000000/{'?' * 24}-*"))


def test_a_restore_to_the_moment_before_the_disaster(site, manage):
    with site.server.connect("keyhub") as client:
        for person in ("alice", "bob"):
            client.execute("INSERT INTO users (email) VALUES (%s)", [f"{person}@example.com"])
            client.execute(
                "INSERT INTO audit_logs (organization_id, action, resource_type, resource_id) "
                "VALUES ('ORG-1', 'user.created', 'user', %s)",
                [person],
            )
        (moment,) = client.execute("SELECT max(pg_xact_commit_timestamp(xmin))::text FROM audit_logs").fetchone()
        client.execute("INSERT INTO users (email) VALUES ('charlie@example.com')")
        client.execute("DELETE FROM users")
        client.execute("DROP TABLE audit_logs CASCADE")
    site.done("check")

    site.server.stop()
    site.server.data_directory.rename(site.server.data_directory.with_name("data.disaster"))
    site.own_folder("server/data")
    site.done("restore", "--type=time", f"--target={moment}", "--target-action=promote")
    site.server.start()

    with site.server.connect("keyhub") as client:
        assert client.execute("SELECT email FROM users ORDER BY email").fetchall() == [
            ("alice@example.com",),
            ("bob@example.com",),
        ]
        assert client.execute("SELECT resource_id FROM audit_logs ORDER BY 1").fetchall() == [("alice",), ("bob",)]
        while client.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
            time.sleep(0.01)
        (segment,) = client.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone()
        assert segment.startswith("00000002")  # the second timeline
    result = manage("dbhealth", "--data", DATABASE_URL=site.url)
    assert (result.returncode, result.stdout, result.stderr) == (0, "default: healthy\n", "")

    # The new timeline is archived and backed up like the one before.
    site.done("backup", "--type=full")
    with site.server.connect("keyhub") as client:
        client.execute("INSERT INTO users (email) VALUES ('dana@example.com')")
    site.done("check")
    count = len(segments(site.repository))
    assert site.script("verify") == (0, f"Verified: 2 backups, and {count} segments of WAL without a gap.\n", "")
    code, output, errors = site.prove()
    assert re.fullmatch(r"Proven: restored up to the transaction of 20\S+ \S+, started, healthy\.\n", output), errors
    assert (code, errors) == (0, "")
    assert not list(site.folder.glob("keyhub-proof-*"))


# A repository that is not sound. A damage returns what `verify` says of it; `pgbackrest verify` exits 0 on each.


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.unlink()
    path.write_bytes(content)


def backup_in(repository: Path) -> Path:
    (backup,) = repository.glob("backup/keyhub/*F")
    return backup


def largest_file(repository: Path) -> Path:
    return max(backup_in(repository).glob("pg_data/base/*/*"), key=lambda path: path.stat().st_size)


def segments_of_backup(repository: Path) -> list[Path]:
    """Those before the first that was archived after it."""
    (mark,) = repository.glob("archive/keyhub/*/*/*.backup")
    return [path for path in segments(repository) if path.name[:24] <= mark.name[:24]]


NOT_FOUND_VALID = "backup LABEL is in backup.info, and was not found valid in the repository."
WAL_OF_BACKUP_LOST = "backup LABEL cannot be restored without the WAL SEGMENT to SEGMENT: some is missing."


def a_byte_of_the_backup(repository: Path) -> list[str]:
    flip_byte(largest_file(repository))
    return ["backup LABEL: 1 of N files are damaged or missing.", NOT_FOUND_VALID]


def a_file_of_the_backup(repository: Path) -> list[str]:
    largest_file(repository).unlink()
    return ["backup LABEL: 1 of N files are damaged or missing.", NOT_FOUND_VALID]


def the_manifest(repository: Path) -> list[str]:
    for manifest in backup_in(repository).glob("backup.manifest*"):
        manifest.unlink()
    return ["backup LABEL: manifest missing.", NOT_FOUND_VALID]


def the_backup(repository: Path) -> list[str]:
    shutil.rmtree(backup_in(repository))
    return [NOT_FOUND_VALID]


def the_list_of_backups(repository: Path) -> list[str]:
    for path in repository.glob("backup/keyhub/backup.info*"):
        path.unlink()
    return ["No usable backup.info file.", "there is no backup: missing stanza data.", "there is no WAL."]


def a_byte_of_the_wal(repository: Path) -> list[str]:
    flip_byte(segments(repository)[-1])
    return ["WAL of ARCHIVE: 1 of N segments are damaged or missing."]


def a_segment_between_others(repository: Path) -> list[str]:
    segments(repository)[-2].unlink()
    return ["WAL of ARCHIVE: it is missing between SEGMENT and SEGMENT."]


def the_wal_of_the_backup(repository: Path) -> list[str]:
    for segment in segments_of_backup(repository):
        segment.unlink()
    return [WAL_OF_BACKUP_LOST]


def all_wal(repository: Path) -> list[str]:
    for segment in segments(repository):
        shutil.rmtree(segment.parents[1], ignore_errors=True)
    return [WAL_OF_BACKUP_LOST, "there is no WAL."]


def a_second_copy_of_a_segment(repository: Path) -> list[str]:
    segment = segments(repository)[-1]
    shutil.copy(segment, segment.with_name(f"{segment.name[:24]}-{'0' * 40}.zst"))
    return ["WAL of ARCHIVE: 2 of N segments are damaged or missing."]


@pytest.mark.parametrize(
    "damage",
    [
        a_byte_of_the_backup,
        a_file_of_the_backup,
        the_manifest,
        the_backup,
        the_list_of_backups,
        a_byte_of_the_wal,
        a_segment_between_others,
        the_wal_of_the_backup,
        all_wal,
        a_second_copy_of_a_segment,
    ],
    ids=lambda damage: damage.__name__,
)
def test_verify_finds(damage: Callable[[Path], list[str]], site, copy):
    faults = damage(copy)
    assert site.pgbackrest("verify", repository=copy).returncode == 0  # hence the script
    code, output, errors = site.script("verify", repository=copy)
    for known, word in [
        (r"\b\d{8}-\d{6}F\b", "LABEL"),
        (r"\b\d+-1\b", "ARCHIVE"),
        (r"\b[0-9A-F]{24}\b", "SEGMENT"),
        (r"of \d+ (?=files|segments)", "of N "),
    ]:
        errors = re.sub(known, word, errors)
    assert (code, output, errors.splitlines()) == (1, "", [f"INVALID: {fault}" for fault in faults])


def test_verify_is_content_with_a_sound_repository(site, copy):
    count = len(segments(copy))
    assert site.script("verify", repository=copy) == (
        0,
        f"Verified: 1 backup, and {count} segments of WAL without a gap.\n",
        "",
    )


def test_verify_does_not_take_an_empty_repository_for_sound(site):
    nothing = site.own_folder("nothing")
    assert site.pgbackrest("stanza-create", repository=nothing).returncode == 0
    assert site.pgbackrest("verify", repository=nothing).returncode == 0
    assert site.script("verify", repository=nothing) == (
        1,
        "",
        "INVALID: there is no backup: no valid backups.\nINVALID: there is no WAL.\n",
    )


def test_verify_cannot_ask(site, monkeypatch):
    assert site.script("verify", "--repo=2") == (
        3,
        "",
        "NOT VERIFIED: pgbackrest ended with exit code 32: key '2' is not valid for 'repo' option\n",
    )
    monkeypatch.setenv("PATH", str(site.folder))
    assert site.script("verify") == (3, "", "NOT VERIFIED: pgbackrest cannot be run: No such file or directory\n")


@pytest.fixture(scope="module")
def verify(site):
    """The script as a module, and what pgBackRest has to say of a sound repository."""
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    loader = SourceFileLoader("verify", str(FILES / "verify"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("verify", loader))
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    sound = site.folder / "sound"
    info = site.pgbackrest("info", "--output=json", repository=sound).stdout
    report = site.pgbackrest("verify", *module.REPORT, repository=sound)
    return module, info, report.stdout, report.stderr


@pytest.mark.parametrize(
    ("part", "old", "new", "reason"),
    [
        (0, '"label"', '"name"', "the output of pgbackrest info is not in the form known here"),
        (0, "[", "", "the output of pgbackrest info is not in the form known here"),
        (1, "status: ok", "state: fine", "the report of pgbackrest verify is not in the form known here"),
        (
            1,
            "status: ok\n",
            "status: ok\n  all 12 gone\n",
            "pgbackrest verify reports what is not known here: all 12 gone",
        ),
        (1, ", total valid WAL", ", whole WAL", "pgbackrest verify reports what is not known here: archiveId: "),
        (2, "wal start", "first wal", "the log of pgbackrest verify does not name the WAL that it has read"),
    ],
)
def test_verify_does_not_guess_at_what_it_does_not_know(verify, part, old, new, reason):
    module, *texts = verify
    assert old in texts[part]
    texts[part] = texts[part].replace(old, new, 1)
    with pytest.raises(module.NotVerifiedError, match=re.escape(reason)):
        module.judge(*texts)


def test_verify_tells_of_a_backup_of_damaged_pages(verify):
    module, info, report, log = verify
    (stanza,) = json.loads(info)
    stanza["backup"][0]["error"] = True
    label = stanza["backup"][0]["label"]
    assert module.judge(json.dumps([stanza]), report, log)[2] == [
        f"backup {label} holds pages that did not have their checksum when they were copied."
    ]


def test_verify_takes_an_error_for_an_error_whatever_its_cause(verify):
    module, info, report, log = verify
    assert module.judge(info, report.replace("status: ok", "status: error"), log)[2] == [
        "pgbackrest verify reports an error; its log at --log-level-console=info tells which."
    ]


# Only a restore proves


def test_prove_finds_a_damaged_backup(site, copy):
    flip_byte(largest_file(copy))
    code, output, errors = site.prove(repository=copy)
    assert (code, output) == (1, "")
    assert re.match(r"NOT PROVEN: restore ended with exit code \d+:\n", errors)
    assert not list(site.folder.glob("keyhub-proof-*"))


def test_prove_finds_lost_wal(site, copy):
    for segment in segments_of_backup(copy):
        segment.unlink()
    code, output, errors = site.prove(repository=copy)
    assert (code, output) == (1, "")
    assert errors.startswith("NOT PROVEN: PostgreSQL does not start from it:\n")
    assert "FATAL:  could not locate required checkpoint record" in errors


def test_prove_finds_a_database_that_is_not_as_the_code_says(site):
    code, output, errors = site.prove("--database=postgres", repository=site.folder / "sound")
    assert (code, output) == (1, "")
    assert errors.startswith("NOT PROVEN: dbhealth ended with exit code 1:\n")
    assert "CRITICAL keyhub.H001 " in errors


def test_prove_cannot_reach_a_moment_before_the_first_backup(site):
    moment = ["--", "--type=time", "--target=2020-01-01 00:00:00+00", "--target-action=promote"]
    code, output, errors = site.prove(*moment, repository=site.folder / "sound")
    assert (code, output) == (1, "")
    assert "unable to find backup set with stop time less than '2020-01-01 00:00:00+00'" in errors
