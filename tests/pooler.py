"""A PgBouncer in front of a server of the tests."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keyhub.embedded import EmbeddedServer, as_root
from tests.test_embedded import temporary_folder, wait_for

needs_pgbouncer = pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is not installed")


@dataclass
class Pooler:
    """A running one."""

    port: int
    configuration: Path
    settings: dict[str, object]
    process: subprocess.Popen = field(init=False)

    def url(self, database: str) -> str:
        return f"postgres://keyhub@127.0.0.1:{self.port}/{database}"

    def lead_to(self, server: EmbeddedServer) -> None:
        """Let the next start or reload find a server behind it."""
        self.configuration.write_text(
            f"[databases]\n* = host={server.socket_directory} user=keyhub\n"
            "[pgbouncer]\n" + "".join(f"{name} = {value}\n" for name, value in self.settings.items())
        )

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def listens(self) -> bool:
        assert self.process.poll() is None, self.process.stderr.read()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def pgbouncer(server: EmbeddedServer, pool_mode: str, **settings: object) -> Iterator[Pooler]:
    """One in front of a server, with these settings in its pgbouncer.ini."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    always = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": pool_mode,
        "ignore_startup_parameters": "extra_float_digits",
    }
    # Like PostgreSQL it refuses to run as root, and the server's socket is for the server's user alone.
    identity = as_root.identity(server.folder.stat().st_uid) if os.geteuid() == 0 else {}
    with temporary_folder() as folder:  # which stays open to all, unlike pytest's
        pooler = Pooler(port, folder / "pgbouncer.ini", {**always, **settings})
        pooler.lead_to(server)
        pooler.process = subprocess.Popen(
            [shutil.which("pgbouncer"), "--quiet", pooler.configuration],
            **identity,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            wait_for(pooler.listens)
            yield pooler
        finally:
            pooler.process.terminate()
            pooler.process.communicate()
