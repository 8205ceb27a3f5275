"""A primary of its own with two streaming standbys, and this process as one of the site that reads from them."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from django.core.cache import cache
from django.db import connections
from django.test import Client

from keyhub.admin import model_admin, pages
from keyhub.database_url import database_from_url, replica_from_url
from keyhub.embedded import EmbeddedServer, as_root
from keyhub.replicas import patience, reading, standing
from tests.conftest import _temporary_database, database_url
from tests.factories import OperatorFactory
from tests.postgres import server_folder
from tests.test_embedded import wait_for

NEVER_S = 24 * 60 * 60


@dataclass
class Cluster:
    """A primary, and the standbys that were made of it."""

    folder: Path
    primary: EmbeddedServer
    standbys: list[EmbeddedServer] = field(default_factory=list)
    kept: list[EmbeddedServer] = field(default_factory=list)

    def standby(self) -> EmbeddedServer:
        """Make one more, and start it."""
        folder = self.folder / f"standby{len(self.standbys) + 1}"
        folder.mkdir(mode=0o700)
        shutil.chown(folder, self.primary.folder.owner())
        standby = EmbeddedServer(folder, self.primary.bin_directory)
        program = self.primary.program("pg_basebackup")
        command = [program, f"--pgdata={standby.data_directory}", "--checkpoint=fast", "--no-sync"]
        command += ["--write-recovery-conf", f"--host={self.primary.socket_directory}", "--username=postgres"]
        owner = as_root.identity(folder.stat().st_uid) if os.geteuid() == 0 else {}
        subprocess.run(command, cwd="/", check=True, **owner)
        self.standbys.append(standby)
        standby.start()
        return standby

    def follow_all(self) -> None:
        """Return once those that stay have replayed all that the primary has written."""
        for standby in self.kept:
            self.follow(standby)

    def follow(self, standby: EmbeddedServer) -> None:
        with self.primary.connect() as primary, standby.connect() as replica:
            primary.execute("SELECT pg_logical_emit_message(true, 'follow', '')")
            (place,) = primary.execute("SELECT pg_current_wal_lsn()::text").fetchone()
            wait_for(lambda: replica.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [place]).fetchone()[0])


@pytest.fixture(scope="session")
def cluster(server, template, worker_id) -> Iterator[Cluster]:
    """A primary whose database `keyhub` is at the newest version."""
    folder = server_folder().parent / f"replicas-{worker_id}"
    folder.mkdir(mode=0o755)
    cluster = Cluster(folder, EmbeddedServer(folder / "primary", server.bin_directory))
    try:
        cluster.primary.start()
        with cluster.primary.connect() as admin:
            admin.execute("ALTER SYSTEM SET wal_keep_size = '1GB'")  # each new standby makes it begin a new file
            admin.execute("SELECT pg_reload_conf()")
        with _temporary_database(server, worker_id, template) as name:
            place = [f"--host={server.socket_directory}", "--username=postgres", name]
            dump = subprocess.run([server.program("pg_dump"), *place], capture_output=True, check=True).stdout
        place = [f"--host={cluster.primary.socket_directory}", "--username=postgres", "--dbname=keyhub"]
        psql = [cluster.primary.program("psql"), *place, "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
        subprocess.run(psql, input=dump, check=True)
        yield cluster
    finally:
        for each in (*cluster.standbys, cluster.primary):
            each.stop()


@pytest.fixture(scope="session")
def standbys(cluster) -> list[EmbeddedServer]:
    """Two that stay as they are."""
    cluster.kept = [cluster.standby(), cluster.standby()]
    return cluster.kept


@dataclass
class Site:
    """This process, with replica1, replica2, … as it reads them."""

    cluster: Cluster
    read: list[tuple[str, str]] = field(default_factory=list)

    def operator(self) -> Client:
        """The browser of an operator who has signed in, and has written nothing."""
        client = Client()
        client.force_login(OperatorFactory(is_superuser=True))
        return client

    def list_of(self, client: Client, page: str, table: str, **parameters: str) -> tuple[str, list[str]]:
        """The text of a list, and the databases that its table was read from."""
        self.read.clear()
        response = client.get(page, parameters)
        assert response.status_code == 200
        return response.text, self.readers_of(table)

    def readers_of(self, table: str) -> list[str]:
        return list(dict.fromkeys(alias for alias, statement in self.read if f'FROM "{table}"' in statement))


@pytest.fixture
def _no_clock(monkeypatch) -> None:
    """A machine that is slow makes no replica too old or silent, brings none back, and ends no list."""
    monkeypatch.setattr(standing, "LONGEST_LAG_S", NEVER_S)
    monkeypatch.setattr(patience, "ANSWER_S", NEVER_S)
    monkeypatch.setattr(reading, "AWAY_S", NEVER_S)
    monkeypatch.setattr(reading.read, "__defaults__", (standing.BEGINNING, NEVER_S))
    for module in (pages, model_admin):
        monkeypatch.setattr(module, "LIST_TIMEOUT_MS", NEVER_S * 1000)


@pytest.fixture
def process(cluster, _no_clock, monkeypatch, settings, django_db_blocker) -> Iterator[Callable[..., Site]]:
    """A process of the site with these replicas: process(standby, "postgres://…")."""
    stack = ExitStack()

    def process(*replicas: EmbeddedServer | str, primary: EmbeddedServer | None = None) -> Site:
        entries = {"default": database_from_url(database_url(primary or cluster.primary, "keyhub"))}
        for number, replica in enumerate(replicas, start=1):
            url = (
                replica if isinstance(replica, str) else f"{database_url(replica, 'keyhub')}&connect_timeout={NEVER_S}"
            )
            entries[f"replica{number}"] = replica_from_url(url)
        settings.REPLICAS = {alias: entry for alias, entry in entries.items() if alias != "default"}
        site = Site(cluster)
        for alias, entry in entries.items():
            monkeypatch.setitem(connections.settings, alias, {**connections.settings["default"], **entry})
            stack.enter_context(_own_connection(alias, site))
        monkeypatch.setattr(reading, "_away", reading.Away())
        cache.clear()
        return site

    with django_db_blocker.unblock(), stack:
        yield process


@pytest.fixture
def site(cluster, standbys, process) -> Site:
    """With both standbys, which have replayed all."""
    cluster.follow_all()
    return process(*standbys)


@pytest.fixture
def one(cluster, standbys, process) -> Site:
    """With one standby, so that it is known which one is read."""
    cluster.follow_all()
    return process(standbys[0])


@contextmanager
def _own_connection(alias: str, site: Site) -> Iterator[None]:
    """A connection of the test's own by an alias, which tells the site what it is asked."""

    def tell(execute, sql, params, many, context):
        site.read.append((alias, sql))
        return execute(sql, params, many, context)

    previous = getattr(connections._connections, alias, None)
    connections[alias] = connections.create_connection(alias)
    try:
        with connections[alias].execute_wrapper(tell):
            yield
    finally:
        connections[alias].close()
        del connections[alias]
        if previous is not None:
            connections[alias] = previous


@contextmanager
def paused(*standbys: EmbeddedServer) -> Iterator[list[psycopg.Connection]]:
    """Standbys that receive what the primary writes, and do not replay it."""
    with ExitStack() as stack:
        sessions = [stack.enter_context(standby.connect()) for standby in standbys]
        for session in sessions:
            session.execute("SELECT pg_wal_replay_pause()")
            wait_for(
                lambda session=session: (
                    session.execute("SELECT pg_get_wal_replay_pause_state()").fetchone()[0] == "paused"
                )
            )
        try:
            yield sessions
        finally:
            for session in sessions:
                session.execute("SELECT pg_wal_replay_resume()")
