from collections.abc import Iterator

import pytest

from tests.backups import people
from tests.backups.object_store import ObjectStore, object_store


@pytest.fixture
def database(connected_to, migrated_database) -> Iterator[str]:
    """The name of a database with people in it, which Django is connected to."""
    with connected_to(migrated_database):
        people()
        yield migrated_database


@pytest.fixture
def url(tmp_path) -> str:
    """A store that is a folder, not there yet."""
    return f"file://{tmp_path}/backups"


@pytest.fixture
def remote(monkeypatch) -> Iterator[ObjectStore]:
    """An object store that every client in this process reaches by what stands in the environment."""
    with object_store() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        yield store
