"""Organizations are filled from every organization that a tenant, a console session or an audit row speaks of."""

import pytest


@pytest.fixture
def database(database_at):
    """From before there were organizations."""
    return database_at("orgs", "zero")


@pytest.fixture
def client(server, database):
    with server.connect(database, "keyhub") as client:
        yield client


def migrate(manage, database, *target) -> None:
    result = manage("migrate", *target, "-v0", database=database)
    assert (result.returncode, result.stderr) == (0, "")


def test_every_organization_that_anything_speaks_of(manage, database, client):
    client.execute(
        "INSERT INTO tenants (organization_id, name, slug) VALUES ('ORG-ACME', 'A', 'a'), ('ORG-ACME', 'B', 'b')"
    )
    client.execute(
        "INSERT INTO console_sessions (session_id, organization_id, expires_at) "
        "VALUES (repeat('0', 64), 'ORG-CONSOLE', '2099-01-01+00')"
    )
    client.execute(
        "INSERT INTO audit_logs (organization_id, action, resource_type) "
        "SELECT id, 'a', 'r' FROM unnest(ARRAY['ORG-GONE', 'ORG-GONE', 'ORG-ACME', '']) AS id"
    )
    migrate(manage, database)
    assert client.execute("SELECT id, name, slug, status FROM organizations ORDER BY id").fetchall() == [
        ("ORG-ACME", "ORG-ACME", "org-acme", "active"),
        ("ORG-CONSOLE", "ORG-CONSOLE", "org-console", "active"),
        ("ORG-DEFAULT-001", "Default Organization", "default", "active"),
        ("ORG-GONE", "ORG-GONE", "org-gone", "active"),
    ]
    assert client.execute("SELECT count(*) FROM pg_constraint WHERE NOT convalidated").fetchone() == (0,)


def test_slugs_are_unique_and_well_formed_whatever_the_ids_are(manage, database, client):
    ids = ["Default", "a b", "A-B", "会社", "---", "x" * 200, "-edge-", "ORG-DEFAULT-001"]
    for number, organization_id in enumerate(ids):
        client.execute(
            "INSERT INTO tenants (organization_id, name, slug) VALUES (%s, 'n', %s)", [organization_id, f"s{number}"]
        )
    migrate(manage, database)
    slugs = dict(client.execute("SELECT id, slug FROM organizations").fetchall())
    assert set(slugs) == set(ids)
    assert slugs["ORG-DEFAULT-001"] == "default"
    assert slugs["-edge-"] == "edge"
    malformed = client.execute("SELECT slug FROM organizations WHERE slug !~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'")
    assert malformed.fetchall() == []


def test_the_way_back_keeps_what_people_have_changed(manage, database, client):
    migrate(manage, database)
    client.execute("INSERT INTO organizations (id, name, slug) VALUES ('ORG-ACME', 'Acme', 'acme')")
    migrate(manage, database, "orgs", "0001")
    assert client.execute("SELECT id FROM organizations").fetchall() == [("ORG-ACME",)]
    migrate(manage, database)
    assert client.execute("SELECT id FROM organizations ORDER BY id").fetchall() == [
        ("ORG-ACME",),
        ("ORG-DEFAULT-001",),
    ]


def test_an_organization_that_comes_into_use_meanwhile(manage, database, client):
    """Between the fill and the key another deployer's tenant brings an organization that nobody has filled in."""
    migrate(manage, database, "orgs", "0002")
    client.execute("INSERT INTO tenants (organization_id, name, slug) VALUES ('ORG-LATE', 'Late', 'late')")
    migrate(manage, database)
    assert client.execute("SELECT name FROM organizations WHERE id = 'ORG-LATE'").fetchall() == [("ORG-LATE",)]
    assert client.execute("SELECT count(*) FROM pg_constraint WHERE NOT convalidated").fetchone() == (0,)
