"""The server of the tests: one embedded PostgreSQL for the whole run, shared by all workers, gone afterwards.

A pytest plugin of its own, since DATABASE_URL must be known before pytest-django reads the settings.
KEYHUB_TEST_POSTGRES_BIN names the programs of another PostgreSQL, say /usr/lib/postgresql/15/bin.
"""

import os
import shutil
import tempfile
from pathlib import Path

# What a developer's shell or .env says must not reach the tests.
SETTINGS = (
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
    "LANGUAGE_CODE",
    "POSTGRES_BIN",
    "SECRET_KEY",
)
FOLDER_VARIABLE = "KEYHUB_TEST_SERVER_FOLDER"


def _prepare_environment() -> None:
    if FOLDER_VARIABLE in os.environ:  # a worker of pytest-xdist
        return
    os.environ[FOLDER_VARIABLE] = tempfile.mkdtemp(prefix="keyhub-test-")
    bin_directory = os.environ.get("KEYHUB_TEST_POSTGRES_BIN", "")
    for name in [name for name in os.environ if name.startswith("PG")]:  # libpq's
        del os.environ[name]
    for name in SETTINGS:
        os.environ[name] = ""
    os.environ["DEBUG"] = "on"
    os.environ["DATABASE_URL"] = f"embedded://{server_folder()}" + (f"?bin={bin_directory}" if bin_directory else "")


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
