"""A failover by Patroni: three servers, synchronous_mode, etcd. It takes more than a minute: CI runs it by its name.

    pytest -n 0 -s tests/failover/patroni.py

It takes Debian's or Ubuntu's packages patroni and etcd-server, and the programs of PostgreSQL that the tests run on. It
prints the figures that docs/failover.md quotes.
"""

import contextlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from keyhub.embedded import EmbeddedServer, as_root
from tests.failover.drill import connected_to_the_primary, drill
from tests.failover.pair import digests
from tests.processes import Run
from tests.test_embedded import temporary_folder, wait_for
from tests.test_serve import free_port, image  # noqa: F401

MEMBERS = 3
LONGEST_START_S = 120
AT_WORK = ("running", "streaming")  # a standby, too, runs for Patroni 3.0
CONFIGURATION = """
scope: keyhub
name: {name}
restapi: {{listen: "127.0.0.1:{rest_port}", connect_address: "127.0.0.1:{rest_port}"}}
etcd3: {{host: "127.0.0.1:{etcd_port}"}}
bootstrap:
  dcs:
    # A primary that says nothing for ttl seconds has lost its place.
    ttl: 20
    loop_wait: 2
    retry_timeout: 5
    # No write is acknowledged that one standby does not have, and only such a one takes over.
    synchronous_mode: true
    # A crashed primary is not waited for, where there is such a standby.
    primary_start_timeout: 0
    postgresql:
      use_pg_rewind: true
      parameters: {{max_connections: 60, wal_keep_size: 1GB}}
  initdb: [encoding: UTF8, data-checksums, locale: C]
postgresql:
  listen: 127.0.0.1:{port}
  connect_address: 127.0.0.1:{port}
  data_dir: {folder}/{name}
  bin_dir: {bin_directory}
  pgpass: {folder}/{name}.pgpass
  authentication:
    superuser: {{username: postgres, password: of-a-test}}
    replication: {{username: replicator, password: of-a-test}}
  parameters: {{unix_socket_directories: "{folder}"}}
  pg_hba:
    - local all all trust
    - host all all 127.0.0.1/32 trust
    - host replication all 127.0.0.1/32 trust
"""


class PatroniCluster:
    """Members by their names. A member is Patroni and the server that it starts and watches."""

    def __init__(self, folder: Path, server: EmbeddedServer):
        self.folder, self._bin_directory = folder, server.program("postgres").parent
        self._identity = as_root.identity(server.folder.stat().st_uid) if os.geteuid() == 0 else {}
        self.ports = {f"member{number}": free_port() for number in range(1, MEMBERS + 1)}
        self._rest_ports = {name: free_port() for name in self.ports}
        self._processes: dict[str, subprocess.Popen] = {}
        self.kills_patroni = False

    def url(self, *names: str, user: str = "keyhub", database: str = "keyhub") -> str:
        hosts = ",".join(f"127.0.0.1:{self.ports[name]}" for name in names or self.ports)
        return f"postgres://{user}@{hosts}/{database}"

    def start(self) -> None:
        etcd_port = free_port()
        own, peers = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{free_port()}"
        self._run(
            "etcd", "etcd", f"--data-dir={self.folder}/etcd", f"--listen-client-urls={own}",
            f"--advertise-client-urls={own}", f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
        )  # fmt: skip
        for name, port in self.ports.items():
            configuration = CONFIGURATION.format(
                name=name, port=port, rest_port=self._rest_ports[name], etcd_port=etcd_port, folder=self.folder,
                bin_directory=self._bin_directory,
            )  # fmt: skip
            (self.folder / f"{name}.yml").write_text(configuration)
            self._run(name, "patroni", f"{name}.yml")
        wait_for(self.is_whole, LONGEST_START_S)

    def _run(self, name: str, *command: str) -> None:
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, **self._identity
            )

    def stop(self) -> None:
        for process in reversed(self._processes.values()):  # etcd last: Patroni would wait for it
            process.terminate()
            process.wait()

    def roles(self) -> dict[str, str]:
        """What Patroni says of the members that run."""
        for port in self._rest_ports.values():
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/cluster") as response:
                members = json.load(response)["members"]
                return {member["name"]: member["role"] for member in members if member["state"] in AT_WORK}
        return {}

    def is_whole(self) -> bool:
        """Whether all run, the primary with a standby that it waits for, and nobody else takes writes."""
        return sorted(self.roles().values()) == ["leader", *["replica"] * (MEMBERS - 2), "sync_standby"]

    def kill_primary(self) -> None:
        (self.killed,) = (name for name, role in self.roles().items() if role == "leader")
        postmaster = psutil.Process(int((self.folder / self.killed / "postmaster.pid").read_text().split()[0]))
        processes = [postmaster, *postmaster.children(recursive=True)]
        if self.kills_patroni:
            self._processes[self.killed].kill()
            self._processes[self.killed].wait()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def take_over(self) -> None:
        """Patroni does it."""

    def bring_back(self) -> None:
        if self.kills_patroni:
            self._run(self.killed, "patroni", f"{self.killed}.yml")
        wait_for(self.is_whole, LONGEST_START_S)
        assert self.roles()[self.killed] != "leader"


@pytest.fixture(scope="module")
def cluster(server) -> Iterator[PatroniCluster]:
    missing = [program for program in ("patroni", "etcd") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    with temporary_folder() as folder:
        shutil.chown(folder, server.folder.owner())
        cluster = PatroniCluster(folder, server)
        try:
            cluster.start()
            with connected_to_the_primary(cluster.url(user="postgres", database="postgres")) as admin:
                admin.execute("CREATE ROLE keyhub LOGIN")
                admin.execute("CREATE DATABASE keyhub OWNER keyhub")
            for command in ("migrate", "auditpartitions"):
                result = Run(command, "-v0", env={**os.environ, "DATABASE_URL": cluster.url()}).completed()
                assert (result.returncode, result.stderr) == (0, "")
            yield cluster
        finally:
            cluster.stop()


@pytest.mark.parametrize("kills_patroni", [False, True], ids=["the server is killed", "its Patroni, too"])
def test_the_primary_is_killed_under_load(cluster, image, tmp_path, kills_patroni):  # noqa: F811
    cluster.kills_patroni = kills_patroni
    figures = drill(cluster, image, tmp_path)
    print(f"\nPatroni killed, too: {kills_patroni}. {figures}")  # noqa: T201
    of_members = [psycopg.connect(cluster.url(name, user="postgres"), autocommit=True) for name in cluster.ports]
    wait_for(lambda: len({str(digests(client)) for client in of_members}) == 1)
    for client in of_members:
        client.close()
