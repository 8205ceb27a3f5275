"""Faults for every object of the catalogue, put one by one into a real database: each is named, and mended as offered.

A run takes one fault of each second object, in turn over all ways; on another version of PostgreSQL, of the others.
KEYHUB_ALL_MUTATIONS=1 takes all, some four thousand.
"""

import functools
import io
import os
from collections.abc import Iterator

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader

from keyhub import dbhealth, sql_text
from keyhub.dbhealth import catalogue, catalogue_file
from keyhub.dbhealth.examination import Examination
from keyhub.dbversion import database
from tests.conftest import create_database
from tests.dbhealth.mutations import STRANGER, Mutation, all_mutations

pytestmark = pytest.mark.database

PARTS = 4
# What takes rows or values with it: no SQL brings those back.
LOSSES = ("DROP TABLE ", "DROP COLUMN ")


@pytest.fixture
def mutations(server, connected_to, migrated_database) -> list[Mutation]:
    with connected_to(migrated_database), transaction.atomic():
        live = catalogue.read(connection)
        return all_mutations(live, connection.pg_version // 10_000)


@pytest.fixture
def chosen(mutations, server) -> list[Mutation]:
    if os.environ.get("KEYHUB_ALL_MUTATIONS"):
        return mutations
    by_object: dict[str, list[Mutation]] = {}
    for mutation in mutations:
        by_object.setdefault(mutation.object, []).append(mutation)
    with server.connect() as session:
        major_version = session.info.server_version // 10_000
    chosen = {}
    for turn, ways in enumerate(by_object.values(), major_version):
        way = ways[turn // 2 % len(ways)]
        if turn % 2 == 0:
            chosen[way.sql] = way
    return list(chosen.values())


@pytest.fixture
def stranger(server) -> None:
    with server.connect() as admin:
        admin.execute(
            f"DO $$ BEGIN CREATE ROLE {STRANGER}; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )


@pytest.fixture
def code_read_once(monkeypatch) -> None:
    """No fault is one of the code: what each run of dbhealth reads of it, half of its work, is read by the first."""
    monkeypatch.setattr(Examination, "loader", MigrationLoader(None, ignore_no_migrations=True))
    monkeypatch.setattr(catalogue_file, "read_newest", functools.cache(catalogue_file.read_newest))
    monkeypatch.setattr(database, "current_digest", functools.cache(database.current_digest))


class Sessions:
    """Of the owner of the tables and of a superuser: opened once for many faults, since each new one costs time."""

    def __init__(self, server, database: str):
        self.server, self.database = server, database
        self.open()

    def open(self) -> None:
        self.owner = self.server.connect(self.database, user="keyhub")
        self.superuser = self.server.connect(self.database)
        for session in (self.owner, self.superuser):
            session.prepare_threshold = None  # DISCARD ALL takes what the driver has prepared

    def close(self) -> None:
        self.owner.close()
        self.superuser.close()

    def as_new(self) -> None:
        for session in (self.owner, self.superuser):
            session.execute("DISCARD ALL")


@pytest.fixture
def sessions(server, migrated_database) -> Iterator[Sessions]:
    sessions = Sessions(server, migrated_database)
    yield sessions
    sessions.close()


def mend(sessions: Sessions, findings: list[dbhealth.Finding]) -> None:
    """Run what was offered, in its order: as the owner of the tables, and as a superuser where that is not enough."""
    for finding in findings:
        if not finding.mend.startswith(("manage.py", "restore", "look")):
            script = "\n".join(line for line in finding.mend.splitlines() if not line.startswith("manage.py"))
            sessions.as_new()
            for statement in sql_text.statements(script):
                try:
                    sessions.owner.execute(statement)
                except psycopg.errors.InsufficientPrivilege:
                    sessions.superuser.execute(statement)
        if "manage.py auditpartitions" in finding.mend:
            call_command("auditpartitions", stdout=io.StringIO())


def test_there_are_faults_for_every_object(mutations, connected_to, migrated_database):
    with connected_to(migrated_database), transaction.atomic():
        live = catalogue.read(connection)
    named = {mutation.object for mutation in mutations}
    unnamed = [
        item.line
        for item in live.objects.values()
        if item.identity not in named and item.kind not in ("grant", "extension") and not _is_of_parent(item)
    ]
    assert unnamed == []
    assert len(mutations) > 3000


def _is_of_parent(item: catalogue.CatalogueObject) -> bool:
    """A partition's key, which PostgreSQL lets nobody change but through its parent's."""
    return item.kind == "constraint" and "partition of" in item.facts


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.long
def test_every_fault_is_named_and_mended(part, chosen, stranger, template, sessions, connected_to, code_read_once):
    missed, left, tried = [], [], 0
    with connected_to(sessions.database):
        for mutation in chosen[part::PARTS]:
            sessions.as_new()
            try:
                with sessions.superuser.transaction():
                    sessions.superuser.execute(mutation.sql)
            except psycopg.Error:
                continue  # PostgreSQL itself refuses this one, say a nullable primary key
            tried += 1
            findings = dbhealth.run("default").findings
            if mutation.object not in {finding.object for finding in findings}:
                missed.append(f"{mutation}: {[finding.object for finding in findings]}")
            if any(loss in mutation.sql for loss in LOSSES):
                _renew(sessions, template)
                continue
            try:
                mend(sessions, findings)
                remaining = dbhealth.run("default").findings
            except psycopg.Error as error:
                remaining = [error]
            if remaining:
                left.append(f"{mutation}: {remaining[0]} of {[finding.mend for finding in findings]}")
                _renew(sessions, template)
    assert (missed, left) == ([], [])
    assert tried > 0.8 * len(chosen[part::PARTS])


def _renew(sessions: Sessions, template: str) -> None:
    connection.close()
    sessions.close()
    with sessions.server.connect() as admin:
        admin.execute(f"DROP DATABASE {sessions.database} WITH (FORCE)")
        create_database(admin, sessions.database, template)
    sessions.open()
