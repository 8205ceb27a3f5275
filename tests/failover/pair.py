"""A primary and its synchronous standby, by streaming replication: no write is acknowledged that both do not have."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from keyhub.embedded import EmbeddedServer, as_root
from tests.postgres import server_folder
from tests.test_embedded import temporary_folder, wait_for


@dataclass
class Pair:
    primary: EmbeddedServer
    standby: EmbeddedServer

    def url(self, database: str = "keyhub") -> str:
        """Both servers, in an order that does not tell which of them is the primary."""
        servers = sorted([self.primary, self.standby], key=lambda server: server.folder)
        hosts = ",".join(str(server.socket_directory) for server in servers)
        return f"postgres:///{database}?host={hosts}&user=keyhub"

    def kill_primary(self) -> None:
        """As if its machine were switched off: nothing of it ends by itself."""
        self.kill(self.primary)

    @staticmethod
    def kill(server: EmbeddedServer) -> None:
        postmaster = server.postmaster()
        postmaster.suspend()  # or it would notice the first that dies, and end the others
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in reversed(processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes)

    def fence(self) -> None:
        """Let the primary take no writes any more. Its sessions, and who comes anew, may go on reading."""
        with self.primary.connect() as admin:
            admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            admin.execute("SELECT pg_reload_conf()")

    def take_over(self) -> None:
        """Make the standby the primary. It has no standby of its own, and so waits for none."""
        with self.standby.connect() as admin:
            assert admin.execute("SELECT pg_promote()").fetchone() == (True,)
        self.primary, self.standby = self.standby, self.primary

    def bring_back(self) -> None:
        """Let the killed server come back as the standby of the one that took its place."""
        with self.primary.connect() as admin:
            admin.execute("CHECKPOINT")  # until then pg_rewind takes it for a server that nobody has promoted
        own = self.standby.data_directory
        source = f"host={self.primary.socket_directory} user=postgres dbname=postgres"
        run(self.standby, "pg_rewind", f"--target-pgdata={own}", f"--source-server={source}", "--write-recovery-conf")
        let_not_wait(own)
        self.standby.start()
        self.wait_for_standby()

    def restore(self) -> None:
        """Whatever a test has left: one primary, and a standby that follows it."""
        if self.primary.postmaster() is None:
            self.take_over()
        with self.primary.connect() as admin:
            is_followed = admin.execute("SELECT FROM pg_stat_replication").rowcount
        if not is_followed:
            if self.standby.postmaster() is not None:
                self.kill(self.standby)
            self.bring_back()

    def wait_until_equal(self) -> None:
        """Until the standby has all that the primary has, row by row."""
        with self.primary.connect("keyhub") as primary, self.standby.connect("keyhub") as standby:
            wait_for(lambda: digests(primary) == digests(standby))

    def wait_for_standby(self) -> None:
        """From now on no write is acknowledged that the standby does not have."""
        with self.primary.connect() as admin:
            follows = "SELECT FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = %s"
            wait_for(lambda: admin.execute(follows, ["async"]).rowcount)
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            admin.execute("SELECT pg_reload_conf()")
            wait_for(lambda: admin.execute(follows, ["sync"]).rowcount)


@contextmanager
def pair(bin_directory: Path | None, prepare: Callable[[EmbeddedServer], None]) -> Iterator[Pair]:
    """A pair whose primary was prepared before it had a standby."""
    with temporary_folder(server_folder().parent) as folder:
        servers = Pair(*(EmbeddedServer(folder / name, bin_directory) for name in ("first", "second")))
        servers.primary.start()
        with servers.primary.connect() as admin:
            admin.execute("ALTER SYSTEM SET wal_keep_size = '1GB'")  # pg_rewind reads what was before the kill
            admin.execute("ALTER SYSTEM SET wal_retrieve_retry_interval = '100ms'")
            admin.execute("SELECT pg_reload_conf()")
        prepare(servers.primary)
        servers.standby.folder.mkdir(mode=0o700)
        shutil.chown(servers.standby.folder, servers.primary.folder.owner())
        place = ["--host", str(servers.primary.socket_directory), "--username=postgres"]
        data = servers.standby.data_directory
        run(servers.primary, "pg_basebackup", *place, f"--pgdata={data}", "--write-recovery-conf", "--checkpoint=fast")
        servers.standby.start()
        servers.wait_for_standby()
        yield servers


def run(server: EmbeddedServer, program: str, *arguments: str) -> None:
    identity = as_root.identity(server.folder.stat().st_uid) if os.geteuid() == 0 else {}
    command = [server.program(program), *arguments]
    result = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, **identity)
    assert result.returncode == 0, result.stderr


def let_not_wait(data_directory: Path) -> None:
    """pg_rewind has copied its configuration, too: a promoted server must not wait for the standby that is no more."""
    with (data_directory / "postgresql.auto.conf").open("a") as file:
        file.write("synchronous_standby_names = ''\n")


def digests(client: psycopg.Connection) -> dict[str, str]:
    """A digest of the rows of each table."""
    tables = client.execute(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    digest = "SELECT md5(string_agg(md5(rows::text), '' ORDER BY md5(rows::text))) FROM {} AS rows"
    return {table: client.execute(digest.format(table)).fetchone() for (table,) in tables.fetchall()}
