"""Backups of two databases of the same name, on a server each."""

import json
from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.db import connections

from keyhub import placement
from keyhub.dbbackup.errors import BackupError
from keyhub.dbrestore.choice import choose
from keyhub.embedded import EmbeddedServer
from keyhub.placement import ADMIN
from keyhub.splitadmin import procedure
from keyhub.splitadmin.sessions import session
from keyhub.store import Store
from tests.backups import aged, both_backed_up, refusals, said, whole
from tests.test_embedded import temporary_folder

pytestmark = pytest.mark.once

DEFAULT = "default"


@pytest.fixture(scope="module")
def other_server(server) -> Iterator[EmbeddedServer]:
    with temporary_folder() as folder:
        other = EmbeddedServer(folder / "server", server.program("postgres").parent)
        other.start()
        yield other
        other.stop()


@pytest.fixture
def namesakes(connected_to, migrated_database, other_server, settings, monkeypatch) -> Iterator[str]:
    """The name of both databases; the Admin database is on a server of its own, as on a laptop both are `keyhub`."""
    monkeypatch.setattr(procedure, "LAST_READERS_S", 0)
    with connected_to(migrated_database), other_server.connect() as owner:
        owner.execute(f"CREATE DATABASE {migrated_database} OWNER keyhub")
        settings.ADMIN_DATABASE_URL = f"embedded://{other_server.folder}"
        place = {"folder": other_server.folder, "bin_directory": other_server.bin_directory}
        connections.settings[ADMIN] = {**connections.settings[DEFAULT], "NAME": migrated_database, "EMBEDDED": place}
        placement.forget()
        procedure.run(lambda line: None)
        procedure.finish(lambda line: None)
        try:
            yield migrated_database
        finally:
            with session(DEFAULT) as tenant:
                procedure.to_default().unsubscribe(tenant)
            connections[ADMIN].close()
            del connections[ADMIN], connections.settings[ADMIN]
            placement.forget()


def test_two_of_the_same_name_on_a_server_each(namesakes, url, settings):
    made = both_backed_up(url, "--prove")
    assert {item.database for item in made.values()} == {namesakes}
    assert made[DEFAULT].system_identifier != made[ADMIN].system_identifier
    names = {alias: item.backup for alias, item in made.items()}
    listed = said("dbbackups", "list", "--from", url, "--format", "json")
    assert {
        told["alias"]: [each["backup"] for each in told["backups"]] for told in map(json.loads, listed)
    } == {alias: [name] for alias, name in names.items()}  # fmt: skip
    store = Store(url)
    for alias in (DEFAULT, ADMIN):
        for server in (made[alias].system_identifier, "that of a new server, after a disaster"):
            assert choose(store, alias, namesakes, "latest", server) == made[alias]
    with pytest.raises(BackupError) as caught:
        choose(store, DEFAULT, namesakes, names[ADMIN])
    assert str(caught.value) == (
        f"{names[ADMIN]} is a backup of the database 'admin', and that of 'default' is meant. Say which database is "
        "meant, or name another backup; manage.py dbbackups list shows them."
    )
    call_command("dbbackups", "prove", names[ADMIN], "--from", url)
    settings.BACKUP_URL = url
    aged(url, made[DEFAULT], hours=3)
    assert refusals("migrate", "--require-backup", "1h")[0].startswith("default: the newest proved backup, ")
    again = both_backed_up(url, "--prove")
    lines = said("dbbackups", "prune", "--from", url, "--days", "0", "--min-proved", "1")
    assert lines == [f"default: {names[DEFAULT]}  gone", f"admin: {names[ADMIN]}  gone"]
    assert {item.backup for item in whole(url)} == {item.backup for item in again.values()}
