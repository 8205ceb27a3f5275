from collections.abc import Callable, Iterator

import psycopg
import pytest

from keyhub import dbhealth
from keyhub.dbhealth.examination import Selection


@pytest.fixture
def client(server, migrated_database) -> Iterator[psycopg.Connection]:
    """The owner of the tables."""
    with server.connect(migrated_database, user="keyhub") as client:
        yield client


@pytest.fixture
def superuser(server, migrated_database) -> Iterator[psycopg.Connection]:
    with server.connect(migrated_database) as superuser:
        yield superuser


@pytest.fixture
def examine(connected_to, migrated_database) -> Callable[..., dbhealth.Report]:
    """Run dbhealth in this process: examine(data=True), examine(only={"keyhub.H020"})."""

    def examine(**selection) -> dbhealth.Report:
        with connected_to(migrated_database):
            return dbhealth.run("default", Selection(**selection))

    return examine


@pytest.fixture
def found(examine) -> Callable[..., list[tuple[str, str, str]]]:
    """The findings as (severity, id and object, problem)."""

    def found(**selection) -> list[tuple[str, str, str]]:
        return [(f.severity, f"{f.id} {f.object}", f.problem) for f in examine(**selection).findings]

    return found
