"""From empty to newest, and the run that finds nothing to do: `manage.py migrate` beside psql, in one run.

    .venv/bin/python -m benchmarks.migrate [rounds]

psql runs the same DDL, the newest schema as pg_dump writes it, in one transaction (`psql -1 -f`); its no-op is one
query. Whole processes, interleaved, on an embedded server of their own; medians. Times depend on the machine, the
ratios hardly.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.server import own_server
from keyhub.embedded import EmbeddedServer

REPOSITORY = Path(__file__).parent.parent


def main(rounds: int) -> None:
    with own_server() as (server, folder):
        measure(server, folder, rounds)


def measure(server: EmbeddedServer, folder: Path, rounds: int) -> None:
    settings = {"DEBUG": "on", "SECRET_KEY": "", "ALLOWED_HOSTS": ""}
    address = f"postgres:///work?host={server.socket_directory}&user=keyhub"
    environment = {**os.environ, **settings, "DATABASE_URL": address}
    psql = [server.program("psql"), "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    psql += [f"--host={server.socket_directory}", "--username=keyhub", "work"]
    manage = [sys.executable, "manage.py"]
    dump = folder / "schema.sql"

    def fresh_database() -> None:
        with server.connect() as admin:
            admin.execute("DROP DATABASE IF EXISTS work")
            admin.execute("CREATE DATABASE work OWNER keyhub")

    def run(command: list) -> float:
        started = time.perf_counter()
        subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    fresh_database()
    run([*manage, "migrate", "-v0"])
    pg_dump = [server.program("pg_dump"), "--schema-only", f"--host={server.socket_directory}", "--username=keyhub"]
    subprocess.run([*pg_dump, f"--file={dump}", "work"], check=True)

    times: dict[str, list[float]] = {name: [] for name in ("migrate", "migrate, no-op", "psql", "psql, no-op", "check")}
    for _ in range(rounds):
        fresh_database()
        times["psql"].append(run([*psql, "-1", f"--file={dump}"]))
        times["psql, no-op"].append(run([*psql, "--command=SELECT count(*) FROM django_migrations"]))
        fresh_database()
        times["migrate"].append(run([*manage, "migrate", "-v0"]))
        times["migrate, no-op"].append(run([*manage, "migrate", "-v0"]))
        times["check"].append(run([*manage, "check"]))
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)

    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name:15} {medians[name] * 1000:7.0f} ms  (from {min(values) * 1000:.0f} to {max(values) * 1000:.0f})")
    print(f"from empty to newest: {medians['migrate'] / medians['psql']:.1f} times psql")
    print(f"nothing to do: {medians['migrate, no-op'] / medians['psql, no-op']:.1f} times psql")
    print(f"of it the start of Django, as `manage.py check` has it: {medians['check'] / medians['migrate, no-op']:.0%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
