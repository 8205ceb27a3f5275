"""Every migration goes up and down again, and leaves the schema as it was, to the byte of a schema-only dump."""

import re

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from keyhub.migrate.lean import LeanExecutor


def whole_plan() -> list[tuple[str, str]]:
    """All migrations in the order in which `migrate` runs them on an empty database."""
    loader = MigrationLoader(connection=None)
    executor = MigrationExecutor.__new__(MigrationExecutor)
    executor.loader = loader
    loader.applied_migrations = {}
    return [
        (migration.app_label, migration.name)
        for migration, _ in executor.migration_plan(loader.graph.leaf_nodes(), clean_start=True)
    ]


PLAN = whole_plan()
OWN_APPS = {"keyhub", "accounts", "tenancy", "auth_sessions", "audit", "orgs"}


def migrate_to(*target: str | None) -> None:
    executor = LeanExecutor(connection)
    executor.migrate([target])


@pytest.mark.once  # on the oldest PostgreSQL each migration goes up and down in the next test
def test_zero_newest_zero_newest(manage, empty_database, schema_dump):
    empty = schema_dump(empty_database)
    assert manage("migrate", "-v0", database=empty_database).returncode == 0
    newest = schema_dump(empty_database)
    for app_label in dict(PLAN):
        result = manage("migrate", app_label, "zero", "-v0", database=empty_database)
        assert (result.returncode, result.stderr) == (0, "")
    zero = schema_dump(empty_database)
    tables_of_the_runner = re.compile("public.(django|keyhub)_migrations")
    left = [line for line in zero.splitlines() if line.startswith("CREATE")]
    assert [line for line in left if not tables_of_the_runner.search(line)] == []
    assert [line for line in empty.splitlines() if line.startswith("CREATE")] == []
    assert manage("migrate", "-v0", database=empty_database).returncode == 0
    assert schema_dump(empty_database) == newest


@pytest.mark.long
def test_each_migration_alone_up_down_and_up(connected_to, empty_database, schema_dump):
    with connected_to(empty_database):
        MigrationExecutor(connection).recorder.ensure_schema()
        previous_of = {}
        before = None
        for app_label, name in PLAN:
            if app_label not in OWN_APPS:
                # Not ours to mend: contenttypes 0002 brings a column back in another place.
                migrate_to(app_label, name)
                before = None
                continue
            before = before or schema_dump(empty_database)
            migrate_to(app_label, name)
            after = schema_dump(empty_database)
            migrate_to(app_label, previous_of.get(app_label))
            assert schema_dump(empty_database) == before, f"{app_label}.{name} leaves traces on its way back"
            migrate_to(app_label, name)
            assert schema_dump(empty_database) == after, f"{app_label}.{name} differs the second time"
            previous_of[app_label] = name
            before = after


def test_the_plan_is_whole():
    assert len(PLAN) == len(set(PLAN)) == len(MigrationLoader(connection=None).graph.nodes)
    assert {app_label for app_label, _ in PLAN} > OWN_APPS


@pytest.mark.django_db
def test_the_models_have_no_change_without_a_migration(manage):
    result = manage("makemigrations", "--check", "--dry-run")
    assert (result.returncode, result.stdout) == (0, "No changes detected\n")


def test_schema_and_data_are_apart():
    """No migration both changes the schema and fills tables: filling would hold the schema's locks."""
    loader = MigrationLoader(connection=None)
    data = {
        ("tenancy", "0002_seed_data"),
        ("tenancy", "0015_fill_group_memberships_tenant"),
        ("orgs", "0002_fill_organizations"),
        ("orgs", "0004_fill_late_organizations"),
        ("auth_sessions", "0011_sessions_take_off_left_memberships"),
        ("auth_sessions", "0013_hash_session_secrets"),
    }
    for app_label, name in PLAN:
        if app_label not in OWN_APPS:
            continue
        migration = loader.graph.nodes[app_label, name]
        text = "".join(
            operation.path(app_label, "up").read_text()
            for operation in migration.operations
            if type(operation).__name__ == "RunSQLFile"
        )
        writes = "INSERT INTO" in text or any(
            type(operation).__name__ == "RunPython" for operation in migration.operations
        )
        assert writes == ((app_label, name) in data), f"{app_label}.{name}"
        if writes:
            assert len(migration.operations) == 1
            assert "CREATE TABLE" not in text
            assert "ALTER TABLE" not in text
