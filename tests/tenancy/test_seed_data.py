"""The default tenant is always there; the demo code, a public key to it, only where demo data is wanted."""

import psycopg
import pytest

# Plain INSERTs, and a setting; tests/test_migrations.py runs them on the oldest PostgreSQL, too.
pytestmark = pytest.mark.once

DEFAULT_TENANT = "f47ac10b-58cc-4372-a567-0e02b2c3d479"


@pytest.fixture
def client(server, empty_database):
    with psycopg.connect(
        host=str(server.socket_directory), dbname=empty_database, user="keyhub", autocommit=True
    ) as client:
        yield client


def migrate(manage, database, *target, demo_data="on") -> None:
    result = manage("migrate", *target, "-v0", database=database, DEMO_DATA=demo_data)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_default_tenant_and_its_demo_code(manage, empty_database, client):
    migrate(manage, empty_database)
    assert client.execute("SELECT id::text, organization_id, slug, name, is_default FROM tenants").fetchall() == [
        (DEFAULT_TENANT, "ORG-DEFAULT-001", "default", "Default Team", True)
    ]
    assert client.execute(
        "SELECT tenant_id::text, code, max_uses, used_count, role, expires_at - created_at = interval '30 days' "
        "FROM tenant_join_codes"
    ).fetchall() == [(DEFAULT_TENANT, "KH-DEMO-001", 100, 0, "member", True)]


def test_no_demo_code_without_demo_data(manage, empty_database, client):
    migrate(manage, empty_database, demo_data="off")
    assert client.execute("SELECT count(*) FROM tenants").fetchone() == (1,)
    assert client.execute("SELECT count(*) FROM tenant_join_codes").fetchone() == (0,)


def test_seeding_twice_does_no_harm(manage, empty_database, client):
    migrate(manage, empty_database, "tenancy", "0002")
    client.execute("UPDATE tenants SET name = 'Renamed'; UPDATE tenant_join_codes SET used_count = 7")
    client.execute("DELETE FROM django_migrations WHERE name = '0002_seed_data'")
    migrate(manage, empty_database)
    assert client.execute("SELECT name FROM tenants").fetchall() == [("Renamed",)]
    assert client.execute("SELECT used_count FROM tenant_join_codes").fetchall() == [(7,)]


def test_seeding_gives_way_to_a_tenant_that_has_the_slug(manage, empty_database, client):
    migrate(manage, empty_database, "tenancy", "0001")
    client.execute("INSERT INTO tenants (name, slug) VALUES ('Ours', 'default')")
    migrate(manage, empty_database)
    assert client.execute("SELECT name FROM tenants").fetchall() == [("Ours",)]
    assert client.execute("SELECT count(*) FROM tenant_join_codes").fetchone() == (0,)


def test_the_way_back_takes_the_seed_and_nothing_else(manage, empty_database, client):
    migrate(manage, empty_database)
    migrate(manage, empty_database, "tenancy", "0001")
    assert client.execute("SELECT count(*) FROM tenants").fetchone() == (0,)
    migrate(manage, empty_database)
    client.execute("INSERT INTO users (email) VALUES ('alice@example.com')")
    client.execute(
        "INSERT INTO tenant_memberships (tenant_id, user_id) SELECT tenants.id, users.id FROM tenants, users"
    )
    migrate(manage, empty_database, "tenancy", "0001")
    assert client.execute("SELECT count(*) FROM tenant_memberships").fetchone() == (1,)
    assert client.execute("SELECT count(*) FROM tenant_join_codes").fetchone() == (0,)
