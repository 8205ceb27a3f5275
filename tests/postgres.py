"""The server of the tests: one embedded PostgreSQL for the whole run, shared by all workers, gone afterwards.

A pytest plugin of its own, since DATABASE_URL must be known before pytest-django reads the settings.
KEYHUB_TEST_POSTGRES_BIN names the programs of another PostgreSQL, say /usr/lib/postgresql/15/bin.
"""

import os
import shutil
import tempfile
from pathlib import Path

import psutil

# What a developer's shell or .env says must not reach the tests.
SETTINGS = (
    "ADMIN_DATABASE_URL",
    "ADMIN_DIRECT_DATABASE_URL",
    "ALLOWED_HOSTS",
    "BACKUP_IDENTITY_FILE",
    "BACKUP_MAX_AGE",
    "BACKUP_PROVING_URL",
    "BACKUP_RECIPIENTS",
    "BACKUP_URL",
    "BEHIND_TLS_PROXY",
    "DATABASE_URL",
    "DEBUG",
    "DEMO_DATA",
    "DIRECT_DATABASE_URL",
    "IDENTITY_SESSION_IDLE_TIMEOUT",
    "IDENTITY_SESSION_LIFETIME",
    "LANGUAGE_CODE",
    "METRICS_TOKEN",
    "POSTGRES_BIN",
    "REPLICA_DATABASE_URL",
    "SECOND_FACTOR",
    "SECRET_KEY",
)
FOLDER_VARIABLE = "KEYHUB_TEST_SERVER_FOLDER"
# Each test makes and drops a database: in memory that takes a tenth of the time, and the server has the same settings.
MEMORY = Path("/dev/shm")  # noqa: S108
MEMORY_NEEDED_BYTES = 4 * 10**9


def _prepare_environment() -> None:
    if FOLDER_VARIABLE in os.environ:  # a worker of pytest-xdist
        return
    os.environ[FOLDER_VARIABLE] = tempfile.mkdtemp(prefix="keyhub-test-", dir=_place())
    bin_directory = os.environ.get("KEYHUB_TEST_POSTGRES_BIN", "")
    for name in [name for name in os.environ if name.startswith("PG")]:  # libpq's
        del os.environ[name]
    for name in SETTINGS:
        os.environ[name] = ""
    os.environ["DEBUG"] = "on"
    os.environ["DATABASE_URL"] = f"embedded://{server_folder()}" + (f"?bin={bin_directory}" if bin_directory else "")


def _place() -> Path | None:
    """Where the server's folder goes: into memory where there is plenty; None is where temporary files go."""
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return None
    free = min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available)
    return MEMORY if free > MEMORY_NEEDED_BYTES else None


def server_folder() -> Path:
    return Path(os.environ[FOLDER_VARIABLE]) / "server"


_prepare_environment()


def pytest_unconfigure(config) -> None:
    if hasattr(config, "workerinput"):
        return
    from django.db import connections

    connections.close_all()
    connections["default"].server.stop()
    shutil.rmtree(os.environ[FOLDER_VARIABLE])
