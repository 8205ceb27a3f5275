"""A healthy database looked over: `manage.py dbhealth` beside `manage.py check` and beside `pg_dump -s | diff`.

    .venv/bin/python -m benchmarks.dbhealth [rounds]

Whole processes, interleaved, on an embedded server of their own; then the time that the server spends on a run, as its
client sees it; both with the shipped schema, and with a thousand monthly partitions. Medians. Where migra is on the
PATH (`pip install migra psycopg[binary] setuptools`), it compares the database with a clone of it beside them.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.server import own_server
from keyhub.embedded import EmbeddedServer

REPOSITORY = Path(__file__).parent.parent
MANY_MONTHS = """
DO $$
DECLARE
    month timestamp := date_trunc('month', statement_timestamp() AT TIME ZONE 'UTC');
BEGIN
    FOR ago IN 1..1000 LOOP
        month := month - interval '1 month';
        EXECUTE format('CREATE TABLE %I PARTITION OF audit_logs FOR VALUES FROM (%L) TO (%L)',
            to_char(month, '"audit_logs_"YYYY_MM'), to_char(month, 'YYYY-MM-DD HH24:MI:SS+00'),
            to_char(month + interval '1 month', 'YYYY-MM-DD HH24:MI:SS+00'));
    END LOOP;
END
$$
"""
# In a process of its own: connections that are warm, statements timed one by one.
INSIDE = """
import statistics, sys, time
import django
django.setup()
from django.db import connection
from keyhub import dbhealth

def timed(execute, sql, params, many, context):
    started = time.perf_counter()
    try:
        return execute(sql, params, many, context)
    finally:
        spent[-1] += time.perf_counter() - started

spent, runs = [], []
for _ in range(int(sys.argv[1])):
    spent.append(0.0)
    started = time.perf_counter()
    with connection.execute_wrapper(timed):
        assert not dbhealth.run("default").findings
    runs.append(time.perf_counter() - started)
print(statistics.median(spent), statistics.median(runs))
"""


def main(rounds: int) -> None:
    with own_server() as (server, folder):
        measure(server, folder, rounds)


def measure(server: EmbeddedServer, folder: Path, rounds: int) -> None:
    address = f"postgres:///keyhub?host={server.socket_directory}&user=keyhub"
    settings = {"DEBUG": "on", "SECRET_KEY": "", "ALLOWED_HOSTS": "", "DJANGO_SETTINGS_MODULE": "keyhub.settings"}
    environment = {**os.environ, **settings, "DATABASE_URL": address}
    manage = [sys.executable, "manage.py"]
    dump = folder / "schema.sql"
    pg_dump = f"{server.program('pg_dump')} -s --restrict-key=k -h {server.socket_directory} -U keyhub keyhub"

    def run(command: list) -> str:
        return subprocess.run(
            command, cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def timed(command: list) -> Callable[[], float]:
        def measured() -> float:
            started = time.perf_counter()
            run(command)
            return time.perf_counter() - started

        return measured

    run([*manage, "migrate", "-v0"])
    for months in ("the shipped schema", "1,000 months more"):
        if months != "the shipped schema":
            with server.connect("keyhub", user="keyhub") as owner:
                owner.execute("SET max_parallel_workers = 0")
                owner.execute(MANY_MONTHS)
        run(["sh", "-c", f"{pg_dump} > {dump}"])
        commands = {
            "manage.py check": timed([*manage, "check"]),
            "manage.py dbhealth": timed([*manage, "dbhealth"]),
            "pg_dump -s | diff": timed(["sh", "-c", f"{pg_dump} | diff {dump} -"]),
        }
        if migra := shutil.which("migra"):
            with server.connect() as admin:
                admin.execute("DROP DATABASE IF EXISTS clone")
                admin.execute("CREATE DATABASE clone OWNER keyhub TEMPLATE keyhub")
            urls = [
                f"postgresql://keyhub@/{name}?host={server.socket_directory}&port=5432" for name in ("keyhub", "clone")
            ]
            commands["migra"] = timed([migra, *urls])
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, measured in commands.items():
                times[name].append(measured())
            print(".", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        medians = {name: statistics.median(values) for name, values in times.items()}
        inside, whole = map(float, run([sys.executable, "-c", INSIDE, str(rounds)]).split())
        print(f"{months}:")
        for name, median in medians.items():
            print(f"  {name:20} {median * 1000:7.0f} ms")
        print(f"  in the database      {inside * 1000:7.0f} ms of a run of {whole * 1000:.0f} ms")
        print(f"  dbhealth takes {medians['manage.py dbhealth'] / medians['manage.py check']:.2f} times check,")
        print(f"  and {medians['manage.py dbhealth'] / medians['pg_dump -s | diff']:.2f} times pg_dump and diff")
        if migra:
            print(f"  and {medians['manage.py dbhealth'] / medians['migra']:.2f} times migra")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
