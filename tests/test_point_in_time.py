"""docs/point-in-time.md, as it is written: its two files, its commands, and its check of the repository."""

import configparser
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from keyhub.embedded import EmbeddedServer, as_root
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "docs/point-in-time"
# The first pgBackRest that knows a PostgreSQL.
KNOWS = {15: (2, 41), 16: (2, 47), 17: (2, 53), 18: (2, 57)}
pytestmark = pytest.mark.database


@dataclass
class Site:
    """A server whose WAL is archived, and the repository of its backups."""

    server: EmbeddedServer
    folder: Path
    config: Path

    def as_server(self, *command: object) -> subprocess.CompletedProcess:
        """Run a program as the user of the server, as cron would."""
        identity = as_root.identity(self.server.folder.stat().st_uid) if os.geteuid() == 0 else {}
        return subprocess.run(
            list(map(str, command)), cwd="/", capture_output=True, text=True, check=False, **identity
        )  # fmt: skip

    def pgbackrest(self, *arguments: object) -> subprocess.CompletedProcess:
        result = self.as_server("pgbackrest", f"--config={self.config}", "--stanza=keyhub", *arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        return result

    def verify(self) -> subprocess.CompletedProcess:
        options = [f"--config={self.config}", "--stanza=keyhub"]
        return self.as_server("sh", self.folder / "verify", *options)

    def files(self, pattern: str) -> list[Path]:
        return sorted((self.folder / "repository").rglob(pattern))


@pytest.fixture
def site(server) -> Iterator[Site]:
    if shutil.which("pgbackrest") is None:
        pytest.skip("pgBackRest is not installed here")
    version = subprocess.run(["pgbackrest", "version"], capture_output=True, text=True, check=True).stdout
    with server.connect() as client:
        major = client.info.server_version // 10_000
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < KNOWS[major]:
        pytest.skip(f"{version.strip()} does not know PostgreSQL {major}")
    with tempfile.TemporaryDirectory(prefix="keyhub-archived-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        own = EmbeddedServer(folder / "server", server.program("postgres").parent)
        own.start()
        try:
            yield _archived(own, folder)
        finally:
            own.stop()


def _archived(server: EmbeddedServer, folder: Path) -> Site:
    """The two files of the page, with places of this test in them, and nothing else changed."""
    owner = server.folder.stat().st_uid
    for name in ("repository", "log", "lock", "spool"):
        (folder / name).mkdir()
        os.chown(folder / name, owner, -1)
    config = configparser.ConfigParser()
    config.read(FOLDER / "pgbackrest.conf")
    places = {
        "global": {
            "repo1-path": folder / "repository",
            **{f"{name}-path": folder / name for name in ("log", "lock", "spool")},
        },
        "keyhub": {"pg1-path": server.data_directory, "pg1-socket-path": server.folder},
    }
    for section, options in places.items():
        config[section].update({name: str(value) for name, value in options.items()})
    config["global"]["repo1-cipher-pass"] = "a secret of this test"
    path = folder / "pgbackrest.conf"
    with path.open("w") as file:
        config.write(file, space_around_delimiters=False)
    shutil.copy(FOLDER / "verify", folder / "verify")
    with server.connect() as admin:
        for line in (FOLDER / "postgresql.conf").read_text().splitlines():
            if not line.startswith("#"):
                setting, value = line.split(" = ")
                value = value.strip("'").replace("pgbackrest ", f"pgbackrest --config={path} ")
                admin.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
    server.stop()
    server.start()
    return Site(server, folder, path)


@pytest.fixture
def on(manage) -> Callable[..., subprocess.CompletedProcess]:
    """manage.py on one of the servers of this test."""

    def on(server: EmbeddedServer, *arguments: str) -> subprocess.CompletedProcess:
        result = manage(*arguments, DATABASE_URL=f"postgres:///keyhub?host={server.socket_directory}&user=keyhub")
        assert result.returncode == 0, result.stdout + result.stderr
        return result

    return on


def test_back_to_the_moment_before_a_disaster_and_a_check_that_does_not_lie(site, on):
    nothing = site.verify()
    assert (nothing.returncode, nothing.stdout) == (1, "")
    on(site.server, "migrate", "--verbosity=0")
    site.pgbackrest("stanza-create")
    assert site.verify().stderr == "verify: there is no backup. Make one: pgbackrest backup\n"
    site.pgbackrest("check")
    site.pgbackrest("--type=full", "backup")
    time.sleep(1.1)  # pgBackRest knows the end of a backup to the second

    with site.server.connect("keyhub", "keyhub") as client:
        client.execute("INSERT INTO users (email) VALUES ('alice@example.com'), ('bob@example.com')")
        (moment,) = client.execute("SELECT clock_timestamp()::text").fetchone()
        time.sleep(0.01)
        client.execute("DELETE FROM users")
    with site.server.connect() as admin:
        admin.execute("SELECT pg_switch_wal()")
    site.pgbackrest("check")

    restored = EmbeddedServer(site.folder / "restored", site.server.bin_directory)
    (restored.folder / "data").mkdir(parents=True)
    for path in (restored.folder, restored.data_directory):
        path.chmod(0o700)
        os.chown(path, site.server.folder.stat().st_uid, -1)
    site.pgbackrest(
        f"--pg1-path={restored.data_directory}", "--type=time", f"--target={moment}", "--target-action=promote",
        "--archive-mode=off", "restore",
    )  # fmt: skip
    restored.start()
    try:
        deadline = time.monotonic() + 30
        with restored.connect("keyhub", "keyhub") as client:
            while client.execute("SELECT pg_is_in_recovery()").fetchone()[0]:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            rows = client.execute("SELECT email FROM users ORDER BY email").fetchall()
        assert rows == [("alice@example.com",), ("bob@example.com",)]
        on(restored, "dbhealth", "--phase", "post-migrate", "--data")
    finally:
        restored.stop()

    sound = site.verify()
    assert (sound.returncode, sound.stdout) == (0, "verify: every backup and its WAL are sound\n"), sound.stderr
    damages = {
        "a file of the backup": (site.files("*F/pg_data/base/*/1*.zst")[0], _flipped),
        "an archived WAL file": (site.files("0*-*.zst")[-1], _emptied),
        "a file that is gone": (site.files("*F/pg_data/base/*/2*.zst")[0], None),
    }
    for what, (path, harm) in damages.items():
        content = path.read_bytes()
        path.unlink() if harm is None else path.write_bytes(harm(content))
        told = site.verify()
        assert (what, told.returncode, told.stdout) == (what, 1, "")
        assert told.stderr.splitlines()[-1].startswith("verify: ")
        path.write_bytes(content)
        shutil.chown(path, site.server.folder.stat().st_uid)
    assert site.verify().returncode == 0


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _emptied(content: bytes) -> bytes:
    return b""
