"""A PgBouncer in front of a server of the tests."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from keyhub.embedded import EmbeddedServer
from tests.test_embedded import wait_for

needs_pgbouncer = pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is not installed")


@contextmanager
def pgbouncer(server: EmbeddedServer, folder: Path, pool_mode: str, **settings: object) -> Iterator[int]:
    """A PgBouncer in front of a server, with its files in a folder of its own; its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = folder / "pgbouncer.ini"
    given = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": pool_mode,
        "ignore_startup_parameters": "extra_float_digits",
        **settings,
    }
    config.write_text(
        f"[databases]\n* = host={server.socket_directory} user=keyhub\n"
        "[pgbouncer]\n" + "".join(f"{name} = {value}\n" for name, value in given.items())
    )
    identity = {}
    if os.geteuid() == 0:
        # Like PostgreSQL it refuses to run as root, and the server's socket is for the server's user alone.
        owner = server.folder.stat()
        identity = {"user": owner.st_uid, "group": owner.st_gid or owner.st_uid, "extra_groups": []}
        for directory in (folder, *folder.parents):
            directory.chmod(directory.stat().st_mode | 0o001)
    process = subprocess.Popen(
        [shutil.which("pgbouncer"), "--quiet", config], **identity, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )

    def listens() -> bool:
        assert process.poll() is None, process.stderr.read()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(listens)
        yield port
    finally:
        process.terminate()
        process.communicate()
