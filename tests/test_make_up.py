"""`make up` in a fresh copy of this checkout: everything ready, nothing changed the second time, or one sentence."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from keyhub.embedded import EmbeddedServer
from keyhub.embedded.as_root import SYSTEM_USER
from tests.conftest import database_url
from tests.test_embedded import (
    REPOSITORY,
    mounted,
    needs_mount,
    needs_root,
    ordinary,  # noqa: F401 a fixture
    postmaster_pid,
    temporary_folder,
    wait_for,
)

FIRST_OPERATOR = r"The first operator: operator@keyhub\.test, password \S{16}"
# What a shell may tell libpq, and what would lead to another server, or to other rights there.
ELSEWHERE = {
    "PGHOSTADDR": "127.0.0.1",
    "PGSERVICE": "something",
    "PGOPTIONS": "--default_transaction_read_only=on",
}
READY = "Ready. The admin: make run, then http://127.0.0.1:8000/admin/"


@dataclass(frozen=True)
class Checkout:
    """A copy of this checkout without anything that `make up` makes, in a folder with spaces in its name."""

    folder: Path
    environment: dict[str, str]
    options: dict

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["make", *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            **self.options,
        )

    @property
    def server(self) -> EmbeddedServer:
        return EmbeddedServer(self.folder / ".postgres")


def copy_checkout(folder: Path) -> None:
    made = (
        ".git",
        ".venv",
        ".env",
        ".postgres",
        ".serve",
        "__pycache__",
        ".pytest_cache",
        ".ruff_cache",
        "staticfiles",
    )
    shutil.copytree(REPOSITORY, folder, ignore=shutil.ignore_patterns(*made))


@pytest.fixture
def parent() -> Iterator[Path]:
    with temporary_folder() as parent:
        yield parent


def make_checkout(parent: Path, **options) -> Checkout:
    copy_checkout(parent / "check out")
    environment = {
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
        "PATH": os.environ["PATH"],
        "HOME": str(Path.home()),  # pip's cache is there
        # pip reads it as --no-compile. To compile six thousand files, of which a run loads some hundred, takes half of
        # the installation; Python compiles those.
        "PIP_NO_COMPILE": "0",
        "PYTHON": sys.executable,
        # What the shell of somebody with a PostgreSQL of his own may hold.
        "PGHOST": "127.0.0.1",
        "PGPORT": "5432",
        "PGUSER": "somebody",
        "PGDATABASE": "something",
        "PGPASSWORD": "hunter2",
    }
    return Checkout(parent / "check out", environment, options)


@pytest.fixture
def taken_port() -> Iterator[None]:
    """The port of PostgreSQL, held by a program that is none, unless a PostgreSQL holds it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", 5432))
            listener.listen()
        except OSError:
            pass  # taken already
        yield


def without_makes_own_lines(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if not line.startswith("make: ***")]


def installed() -> list[str]:
    """What lets make take the environment in which the tests run."""
    return [f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/.requirements-installed"]


def check_up_twice_and_down(checkout: Checkout, first_stderr: list[str], *arguments: str) -> None:
    first = checkout.make("up", *arguments, **ELSEWHERE)
    assert (first.returncode, first.stderr.splitlines()) == (0, first_stderr)
    *_, health, operator, ready = first.stdout.splitlines()
    assert (health, ready) == ("default: healthy", READY)
    assert re.fullmatch(FIRST_OPERATOR, operator)

    os.kill(postmaster_pid(checkout.server), signal.SIGKILL)
    second = checkout.make("up", *arguments, **ELSEWHERE)
    assert (second.returncode, second.stderr) == (0, "")
    assert "Installing" not in second.stdout
    assert "Applying" not in second.stdout
    assert second.stdout.splitlines()[-3:] == [
        "default: healthy",
        "There is an operator already. A lost password: manage.py changepassword <e-mail>",
        READY,
    ]

    down = checkout.make("down", *arguments, **ELSEWHERE)
    stopped = f"The embedded PostgreSQL in {checkout.folder}/.postgres has stopped.\n"
    assert (down.returncode, down.stdout, down.stderr) == (0, stopped, "")


def kill_in_the_middle_of_the_installation(checkout: Checkout) -> None:
    make = subprocess.Popen(
        ["make", "up"],
        cwd=checkout.folder,
        env=checkout.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **checkout.options,
    )
    try:
        wait_for(lambda: any(checkout.folder.glob(".venv/lib/*/site-packages")))
    finally:
        os.killpg(make.pid, signal.SIGKILL)
        make.wait()
    # A pip killed while it installed ruff leaves this: the package is known, its program missing.
    (packages,) = checkout.folder.glob(".venv/lib/*/site-packages")
    (version,) = re.findall(r"^ruff==(\S+)", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE)
    metadata = packages / f"ruff-{version}.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.4\nName: ruff\nVersion: {version}\n")


def own(folder: Path, user_id: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user_id, -1, follow_symlinks=False)


@pytest.mark.long
def test_up_killed_then_twice_as_an_ordinary_user(parent, taken_port, request):
    checkout = make_checkout(parent, umask=0o077)
    if os.geteuid() == 0:
        ordinary = request.getfixturevalue("ordinary")
        environment = {**checkout.environment, "HOME": str(parent), "PYTHON": ordinary.python}
        checkout = Checkout(checkout.folder, environment, ordinary.options)
        own(parent, ordinary.user_id)
    parent.chmod(0o700)
    kill_in_the_middle_of_the_installation(checkout)
    own(parent, parent.stat().st_uid)
    check_up_twice_and_down(checkout, [])
    subprocess.run([checkout.folder / ".venv/bin/ruff", "--version"], stdout=subprocess.DEVNULL, check=True)
    assert {path.owner() for path in parent.rglob("*") if not path.is_symlink()} == {parent.owner()}


@needs_root
@pytest.mark.long
def test_up_twice_as_root(parent, taken_port):
    checkout = make_checkout(parent, umask=0o077)
    for folder in (parent, checkout.folder):
        folder.chmod(0o700)
    check_up_twice_and_down(
        checkout,
        [
            f"keyhub: other users may now pass through {parent}, {checkout.folder} (chmod o+x), because the embedded "
            f"PostgreSQL must not run as root and runs as {SYSTEM_USER}."
        ],
        *installed(),
    )


@pytest.mark.once
def test_a_server_of_ones_own(parent, server, empty_database):
    checkout = make_checkout(parent)
    url = database_url(server, empty_database)

    up = checkout.make("up", *installed(), DATABASE_URL=url)
    assert (up.returncode, up.stderr) == (0, "")
    assert up.stdout.splitlines()[-1] == READY
    assert not checkout.server.folder.exists()

    down = checkout.make("down", *installed(), DATABASE_URL=url)
    assert (down.returncode, down.stdout) == (2, "")
    assert without_makes_own_lines(down.stderr) == [
        "CommandError: DATABASE_URL names a server of your own, not an embedded one: start and stop it by its own "
        "means, or set DATABASE_URL to embedded:///folder."
    ]

    unreachable = checkout.make("up", *installed(), DATABASE_URL="postgres://keyhub:hunter2@127.0.0.1:1/keyhub")
    assert (unreachable.returncode, unreachable.stdout) == (2, "")
    assert without_makes_own_lines(unreachable.stderr) == [
        'keyhub: the database cannot be reached: connection failed: connection to server at "127.0.0.1", port 1 '
        "failed: Connection refused Is the server running on that host and accepting TCP/IP connections?"
    ]


# Surroundings at fault


def refusal(checkout: Checkout, **environment: str) -> str:
    up = checkout.make("up", **environment)
    assert (up.returncode, up.stdout) == (2, "")
    assert not (checkout.folder / ".venv").exists()
    assert not (checkout.folder / ".env").exists()
    (sentence,) = without_makes_own_lines(up.stderr)
    return sentence


@pytest.fixture
def bare_checkout(parent) -> Checkout:
    """One that gets no packages."""
    return make_checkout(parent)


def python_with(parent: Path, statement: str) -> str:
    """A Python that is at fault in some way: it runs `statement` before the code it is given."""
    script = parent / "python"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{statement}; exec(__import__(\'sys\').argv[1])" "$2"\n')
    script.chmod(0o755)
    return str(script)


def test_no_python(bare_checkout):
    assert refusal(bare_checkout, PYTHON="/nowhere/python3") == (
        "keyhub: there is no /nowhere/python3. Install Python 3.11 or newer, or name it: make PYTHON=/its/path"
    )


def test_old_python(bare_checkout, parent):
    python = python_with(parent, "import sys; sys.version_info = (3, 9, 2)")
    assert refusal(bare_checkout, PYTHON=python) == (
        f"keyhub: Python 3.11 or newer is needed, and {python} is older. Name a newer one: make PYTHON=python3.11"
    )


def test_python_without_venv(bare_checkout, parent):
    python = python_with(parent, "import importlib.util as u; u.find_spec = lambda name: None")
    assert refusal(bare_checkout, PYTHON=python) == (
        f"keyhub: {python} cannot make environments. Install its venv module: on Debian and Ubuntu, python3-venv."
    )


@needs_mount
def test_full_disk(parent):
    with mounted(parent / "disk", "size=50m"):
        assert refusal(make_checkout(parent / "disk")) == (
            "keyhub: less than 1 GB is free here. Make room, or clone KeyHub elsewhere."
        )


def test_read_only_folder(parent, request):
    sentence = "keyhub: this folder cannot be written to. Make it writable, or clone KeyHub elsewhere."
    if os.geteuid() != 0:
        checkout = make_checkout(parent)
        checkout.folder.chmod(0o555)
        assert refusal(checkout) == sentence
        checkout.folder.chmod(0o755)
        return
    request.applymarker(needs_mount)
    with mounted(parent / "disk", "size=50m"):
        checkout = make_checkout(parent / "disk")
        subprocess.run(["mount", "-o", "remount,ro", parent / "disk"], check=True)
        assert refusal(checkout) == sentence
