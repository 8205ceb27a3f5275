"""Backing up and restoring beside the source design's script, in one run, on a database of at least 2 GB.

    .venv/bin/python -m benchmarks.backup [GB]

`manage.py dbbackup` beside `pg_dump > file; gzip file`, and `manage.py dbrestore`, which verifies and compares, beside
`gunzip | psql`. Whole processes, an embedded server of their own. Memory is the peak of all processes of a run together
but the server's; temporary disk the peak of what stands in TMPDIR meanwhile.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.population import USERS_PER_GB, populate
from keyhub.embedded import EmbeddedServer

REPOSITORY = Path(__file__).parent.parent
SAMPLE_S = 0.05
MB = 1_000_000


@dataclass
class Run:
    """One run: its seconds, and its peaks in bytes."""

    wall_s: float
    memory: int
    temporary: int


def main(gigabytes: float) -> None:
    with tempfile.TemporaryDirectory(prefix="keyhub-benchmark-") as folder:
        server = EmbeddedServer(Path(folder) / "server")
        server.start()
        try:
            measure(server, Path(folder), gigabytes)
        finally:
            server.stop()


def measure(server: EmbeddedServer, folder: Path, gigabytes: float) -> None:
    address = f"postgres:///keyhub?host={server.socket_directory}&user=keyhub"
    temporary = folder / "tmp"
    temporary.mkdir()
    settings = {"DEBUG": "on", "SECRET_KEY": "", "ALLOWED_HOSTS": "", "BACKUP_URL": f"file://{folder}/backups"}
    environment = {**os.environ, **settings, "DATABASE_URL": address, "TMPDIR": str(temporary)}
    manage = [sys.executable, "manage.py"]
    subprocess.run([*manage, "migrate", "--verbosity=0"], cwd=REPOSITORY, env=environment, check=True)
    with server.connect("keyhub", "keyhub") as client:
        size = populate(client, int(gigabytes * USERS_PER_GB))
    print(f"database: {size / 1e9:.2f} GB")

    plain = folder / "plain.sql"
    options = f"-h {server.socket_directory} -U keyhub"
    script = f"{server.program('pg_dump')} {options} keyhub > {plain}; gzip -f {plain}"
    psql = f"gunzip -c {plain}.gz | {server.program('psql')} {options} -qX -o /dev/null -v ON_ERROR_STOP=1 -d by_psql"
    with server.connect(user="keyhub") as admin:
        admin.execute("CREATE DATABASE by_psql")

    theirs = timed(["sh", "-c", script], environment, temporary)
    ours = timed([*manage, "dbbackup"], environment, temporary)
    stored = sum(path.stat().st_size for path in (folder / "backups").rglob("*") if path.is_file())
    report("back up", "pg_dump; gzip", theirs, "dbbackup", ours)
    gzipped = Path(f"{plain}.gz").stat().st_size
    print(f"  size: {gzipped / MB:.0f} MB and {stored / MB:.0f} MB, {stored / gzipped:.2f} of it")

    theirs = timed(["sh", "-c", psql], environment, temporary)
    ours = timed([*manage, "dbrestore", "latest", "--database", "by_keyhub"], environment, temporary)
    report("restore", "gunzip | psql", theirs, "dbrestore", ours)


def report(what: str, their_name: str, theirs: Run, our_name: str, ours: Run) -> None:
    print(f"{what}: {theirs.wall_s / ours.wall_s:.1f} times faster")
    for name, run in ((their_name, theirs), (our_name, ours)):
        print(
            f"  {name}: {run.wall_s:.1f} s, {run.memory / MB:.0f} MB of memory, {run.temporary / MB:.1f} MB in TMPDIR"
        )


def timed(command: list[str], environment: dict[str, str], temporary: Path) -> Run:
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment)
    peaks = Run(0, 0, 0)
    done = threading.Event()

    def watch() -> None:
        root = psutil.Process(process.pid)
        while not done.wait(SAMPLE_S):
            with suppress(psutil.Error):
                family = [root, *root.children(recursive=True)]
                peaks.memory = max(peaks.memory, sum(member.memory_info().rss for member in family))
            files = [path for path in temporary.rglob("*") if path.is_file()]
            peaks.temporary = max(peaks.temporary, sum(path.stat().st_size for path in files if path.exists()))

    watcher = threading.Thread(target=watch)
    started_at = time.perf_counter()
    watcher.start()
    code = process.wait()
    peaks.wall_s = time.perf_counter() - started_at
    done.set()
    watcher.join()
    if code:
        sys.exit(f"{command} ended with exit code {code}")
    return peaks


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.1)
