"""20261124000011_strengthen_organizations on rows that are older: sound ones pass, and what breaks a rule is listed."""

import pytest
from django.db import IntegrityError, connection
from django.db.migrations.executor import MigrationExecutor
from psycopg import errors

ORGANIZATION = "INSERT INTO organizations (id, name, slug) VALUES (%s, %s, %s) RETURNING id"
DOMAIN = "INSERT INTO organization_domains (organization_id, domain) VALUES ('ORG-DEFAULT-001', %s) RETURNING id"
BROKEN = [
    ("organizations", "check_organization_slug", ORGANIZATION, ["ORG-X", "X", "No-URL"], '"slug":"No-URL"'),
    ("organizations", "check_organization_name", ORGANIZATION, ["ORG-X", "", "x"], '"name":""'),
    ("organization_domains", "check_organization_domain", DOMAIN, ["acme"], '"domain":"acme"'),
    ("organization_domains", "check_organization_domain", DOMAIN, ["bücher.example"], '"domain":"bücher.example"'),
]


@pytest.fixture
def client(server, migrated_database):
    with server.connect(migrated_database, user="keyhub") as client:
        yield client


@pytest.fixture
def migrate_to(connected_to, migrated_database):
    with connected_to(migrated_database):
        yield lambda name: MigrationExecutor(connection).migrate([("orgs", name)])


NEWEST = "0013_copies_refuse_writes"
BEFORE = "0005_validate_organization_keys"


def test_sound_rows_pass_and_down_and_up_again_is_the_same_schema(migrate_to, client, schema_dump, migrated_database):
    newest = schema_dump(migrated_database)
    migrate_to(BEFORE)
    before = schema_dump(migrated_database)
    client.execute(DOMAIN, ["Acme.Example"])
    client.execute(ORGANIZATION, ["ORG-LATE", "ORG-LATE", "org-0123456789abcdef"])  # as 0004 makes it
    migrate_to(NEWEST)
    assert schema_dump(migrated_database) == newest
    assert client.execute("SELECT domain, failed_checks FROM organization_domains").fetchall() == [("acme.example", 0)]
    migrate_to(BEFORE)
    assert schema_dump(migrated_database) == before
    migrate_to(NEWEST)
    assert schema_dump(migrated_database) == newest
    assert client.execute("SELECT count(*) FROM pg_constraint WHERE NOT convalidated").fetchone() == (0,)


@pytest.mark.parametrize(("table", "rule", "statement", "values", "shown"), BROKEN)
def test_a_row_that_breaks_a_rule_is_listed(migrate_to, client, table, rule, statement, values, shown):
    migrate_to(BEFORE)
    (row_id,) = client.execute(statement, values).fetchone()
    with pytest.raises(IntegrityError) as refusal:
        migrate_to(NEWEST)
    message = refusal.value.__cause__.diag.message_primary
    assert message.startswith(f'{table}: 1 row breaks {rule}: {{"id":"{row_id}"')
    assert shown in message
    (_, _, query) = message.partition("List with: ")
    assert client.execute(query).rowcount == 1
    client.execute(f"DELETE FROM {table} WHERE id = %s", [row_id])
    migrate_to(NEWEST)


def test_one_domain_twice_is_listed(migrate_to, client):
    migrate_to(BEFORE)
    ids = [str(client.execute(DOMAIN, [domain]).fetchone()[0]) for domain in ("acme.example", "ACME.example")]
    with pytest.raises(IntegrityError) as refusal:
        migrate_to(NEWEST)
    message = refusal.value.__cause__.diag.message_primary
    assert message.startswith("organization_domains: 2 rows break organization_domains_organization_id_domain_key: {")
    assert all(f'{{"id":"{row_id}","organization_id":"ORG-DEFAULT-001"' in message for row_id in ids)


def test_what_is_written_while_the_version_is_applied_is_checked(migrate_to, client):
    """The last release still runs between two migrations; the constraint, not yet validated, holds for it already."""
    migrate_to("0007_organization_checks_not_valid")
    with pytest.raises(errors.CheckViolation, match="check_organization_domain"):
        client.execute(DOMAIN, ["Late.Example"])
    migrate_to(NEWEST)
