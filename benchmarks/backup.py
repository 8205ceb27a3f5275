"""Backing up and restoring beside the source design's script, in one run, on a database of at least 2 GB.

    .venv/bin/python -m benchmarks.backup [GB] [rounds]

`manage.py dbbackup` beside `pg_dump > file; gzip file`, and `manage.py dbrestore`, which verifies and compares, beside
`gunzip | psql`. Whole processes in turn, medians, an embedded server of their own. Memory is the peak of all processes
of a run together but the server's; temporary disk the peak of what stands in TMPDIR meanwhile.
"""

import os
import statistics
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.population import USERS_PER_GB, populate
from benchmarks.server import own_server
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


def main(gigabytes: float, rounds: int) -> None:
    with own_server() as (server, folder):
        measure(server, folder, gigabytes, range(rounds))


def measure(server: EmbeddedServer, folder: Path, gigabytes: float, rounds: range) -> None:
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
    commands = {"pg_dump; gzip": ["sh", "-c", script], "dbbackup": [*manage, "dbbackup"]}
    compare("back up", [{name: timed(line, environment, temporary) for name, line in commands.items()} for _ in rounds])
    stored = min(path.stat().st_size for path in (folder / "backups").rglob("dump.pgc.zst"))
    gzipped = Path(f"{plain}.gz").stat().st_size
    print(f"  size: {gzipped / MB:.0f} MB and {stored / MB:.0f} MB, {stored / gzipped:.2f} of it")

    restored = []
    commands = {
        "gunzip | psql": ["sh", "-c", psql],
        "dbrestore": [*manage, "dbrestore", "latest", "--database", "by_keyhub"],
    }
    for _ in rounds:
        with server.connect(user="keyhub") as admin:
            for name in ("by_psql", "by_keyhub"):
                admin.execute(f"DROP DATABASE IF EXISTS {name}")
            admin.execute("CREATE DATABASE by_psql")
        restored.append({name: timed(line, environment, temporary) for name, line in commands.items()})
    compare("restore", restored)


def compare(what: str, rounds: list[dict[str, Run]]) -> None:
    """Say how the second of two commands does beside the first."""
    names = list(rounds[0])
    medians = [statistics.median(runs[name].wall_s for runs in rounds) for name in names]
    print(f"{what}: {medians[0] / medians[1]:.1f} times faster")
    for name, wall_s in zip(names, medians, strict=True):
        memory, temporary = (max(getattr(runs[name], peak) for runs in rounds) for peak in ("memory", "temporary"))
        print(f"  {name}: {wall_s:.1f} s, {memory / MB:.0f} MB of memory, {temporary / MB:.1f} MB in TMPDIR")


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
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.1, int(sys.argv[2]) if len(sys.argv) > 2 else 3)
