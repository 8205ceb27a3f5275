"""Two servers with streaming replication, for all tests of a worker."""

import os
from collections.abc import Iterator

import pytest

from keyhub.embedded import EmbeddedServer
from tests.conftest import database_url
from tests.failover.pair import Pair, pair
from tests.processes import Run


@pytest.fixture(scope="session")
def _pair(server) -> Iterator[Pair]:
    with pair(server.bin_directory, migrate) as servers:
        yield servers


def migrate(server: EmbeddedServer) -> None:
    for command in ("migrate", "auditpartitions"):
        result = Run(command, "-v0", env={**os.environ, "DATABASE_URL": database_url(server, "keyhub")}).completed()
        assert (result.returncode, result.stderr) == (0, "")


@pytest.fixture
def servers(_pair) -> Iterator[Pair]:
    """With a migrated database, keyhub."""
    yield _pair
    _pair.restore()
