"""Databases for tests: each is a clone of a template that was migrated once, so a fresh one costs milliseconds."""

import compileall
import functools
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection, connections
from django.utils import translation
from psycopg import sql

from keyhub.embedded import EmbeddedServer
from tests.postgres import MEMORY, server_folder
from tests.processes import REPOSITORY, Run
from tests.two_databases import TwoDatabases, made

APPS = sorted(path.parent for path in REPOSITORY.glob("*/apps.py"))
TEMPLATE = "keyhub_template"
# In memory copying takes two thirds of the time of logging each page; on a disk its checkpoints would take longer.
STRATEGY = "file_copy" if server_folder().is_relative_to(MEMORY) else "wal_log"
DATABASE_FIXTURES = {"db", "transactional_db", "server", "empty_database", "migrated_database", "manage"}


def pytest_configure(config) -> None:
    """Compile KeyHub once, not in each of hundreds of processes, as with PYTHONDONTWRITEBYTECODE in many containers."""
    if not hasattr(config, "workerinput"):
        for app in APPS:
            compileall.compile_dir(app, quiet=2)


@pytest.hookimpl(tryfirst=True)  # before pytest itself selects by marker
def pytest_collection_modifyitems(items) -> None:
    for item in items:
        if item.get_closest_marker("django_db") or DATABASE_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.database)
    # At the end a worker that has none left steals from the other: of the short ones there are enough to share.
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def _language() -> Iterator[None]:
    """A page in Japanese leaves its language to the thread that has asked for it."""
    yield
    translation.deactivate()


@pytest.fixture(scope="session")
def server() -> EmbeddedServer:
    """The running server."""
    server = connections["default"].server
    server.start()
    with server.connect() as admin:
        # Tests bring deadlocks about on purpose; a second each is too long to wait.
        admin.execute("ALTER SYSTEM SET deadlock_timeout = '20ms'")
        # So is the pause of five seconds before replication's workers begin anew.
        admin.execute("ALTER SYSTEM SET wal_retrieve_retry_interval = '20ms'")
        admin.execute("SELECT pg_reload_conf()")
    return server


@pytest.fixture(scope="session")
def template(server, django_db_blocker) -> str:
    """The name of a database that is migrated and never connected to again. The first worker makes it."""
    with server.connect() as admin:
        admin.execute("SELECT pg_advisory_lock(hashtext('keyhub_template'))")
        if not admin.execute("SELECT FROM pg_database WHERE datname = %s", [TEMPLATE]).rowcount:
            unfinished = f"{TEMPLATE}_unfinished"
            create_database(admin, unfinished, "template1")
            with django_db_blocker.unblock(), _connected_to(unfinished):
                call_command("migrate", verbosity=0)
            admin.execute(f"ALTER DATABASE {unfinished} RENAME TO {TEMPLATE}")
    return TEMPLATE


@pytest.fixture(scope="session")
def django_db_setup(server, template, django_db_blocker, worker_id) -> None:
    """Replaces pytest-django's fixture: a clone of the template for each worker."""
    name = f"keyhub_{worker_id}"
    with server.connect() as admin:
        create_database(admin, name, template)
    connections["default"].close()
    connections["default"].settings_dict["NAME"] = settings.DATABASES["default"]["NAME"] = name


@pytest.fixture
def empty_database(server, worker_id) -> Iterator[str]:
    """The name of a fresh database without a table."""
    with _temporary_database(server, worker_id, "template1") as name:
        yield name


@pytest.fixture
def migrated_database(server, template, worker_id) -> Iterator[str]:
    """The name of a fresh database at the newest version, for tests that leave traces."""
    with _temporary_database(server, worker_id, template) as name:
        yield name


@pytest.fixture
def database_at(server, template_at, worker_id) -> Iterator[Callable[..., str]]:
    """Make a fresh database at an older version, and return its name.

    database_at("accounts", "0002") comes back from the newest one, database_at("--to", "3", up=True) up from an empty.
    """
    with ExitStack() as databases:
        yield lambda *target, up=False: databases.enter_context(
            _temporary_database(server, worker_id, template_at(*target, up=up))
        )


@pytest.fixture(scope="session")
def template_at(server, template, worker_id) -> Callable[..., str]:
    """The template of the databases at an older version; each worker makes it once."""

    @functools.cache
    def template_at(*target: str, up: bool) -> str:
        name = f"keyhub_{worker_id}_template_{next(_serial)}"
        with server.connect() as admin:
            create_database(admin, name, "template1" if up else template)
        result = _manage(server, "migrate", *target, "--yes", "-v0", database=name)
        assert (result.returncode, result.stderr) == (0, "")
        return name

    return template_at


_serial = itertools.count()


@contextmanager
def _temporary_database(server: EmbeddedServer, worker_id: str, source: str) -> Iterator[str]:
    name = f"keyhub_{worker_id}_{next(_serial)}"
    with server.connect() as admin:
        create_database(admin, name, source)
        yield name
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def create_database(admin: psycopg.Connection, name: str, template: str) -> None:
    admin.execute(
        sql.SQL("CREATE DATABASE {} OWNER keyhub TEMPLATE {} STRATEGY {}").format(
            sql.Identifier(name), sql.Identifier(template), sql.SQL(STRATEGY)
        )
    )


@contextmanager
def _connected_to(name: str) -> Iterator[None]:
    connection.close()
    previous = connection.settings_dict["NAME"]
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = previous


@pytest.fixture
def connected_to(django_db_blocker) -> Iterator[Callable]:
    """Point Django's default connection at another database: `with connected_to(empty_database): …`."""
    with django_db_blocker.unblock():
        yield _connected_to


@pytest.fixture(scope="session")
def make_two_databases(server, template, worker_id, django_db_blocker) -> Callable:
    """Make a tenant database at the newest version and an empty Admin database: `with make_two_databases() as two:`."""

    @contextmanager
    def make_two_databases() -> Iterator[TwoDatabases]:
        with (
            _temporary_database(server, worker_id, template) as tenant,
            _temporary_database(server, worker_id, "template1") as admin,
            django_db_blocker.unblock(),
            _connected_to(tenant),
            made(tenant, admin, server) as databases,
        ):
            yield databases

    return make_two_databases


@pytest.fixture
def two_databases(make_two_databases) -> Iterator[TwoDatabases]:
    """A tenant database at the newest version and an empty Admin database; Django's aliases are these as well."""
    with make_two_databases() as databases:
        yield databases


@contextmanager
def connected_by(entry: dict) -> Iterator[None]:
    """Point Django's default connection, in every thread, at what an entry of DATABASES names."""
    before, own = connections.settings["default"], connections["default"]
    connections.settings["default"] = {**before, **entry}
    connections["default"] = connections.create_connection("default")
    try:
        yield
    finally:
        connections["default"].close()
        connections["default"], connections.settings["default"] = own, before


@pytest.fixture
def schema_dump(server) -> Callable[[str], str]:
    """Return the schema of a database as pg_dump writes it."""

    def dump(database: str) -> str:
        program = server.program("pg_dump")
        # Without a fixed key two dumps of the same schema differ in their \restrict lines.
        command = [program, "--schema-only", "--restrict-key=keyhub", "--host", server.socket_directory]
        return subprocess.run(
            [*command, "--username=keyhub", database], capture_output=True, text=True, check=True
        ).stdout

    return dump


@pytest.fixture
def manage(server) -> Callable[..., subprocess.CompletedProcess]:
    """Run `manage.py` as a process of its own: manage("migrate", database=name, DEBUG="off")."""
    return functools.partial(_manage, server)


def _manage(
    server: EmbeddedServer, *arguments: str, database: str | None = None, **environment: str
) -> subprocess.CompletedProcess:
    variables = {**os.environ, **environment}
    if database is not None:
        variables["DATABASE_URL"] = database_url(server, database)
    return Run(*arguments, env=variables).completed()


def database_url(server: EmbeddedServer, database: str, user: str = "keyhub") -> str:
    """The URL by which any client of PostgreSQL reaches a database of the test server."""
    return f"postgres:///{database}?host={server.socket_directory}&user={user}"
