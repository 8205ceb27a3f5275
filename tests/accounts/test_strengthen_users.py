"""20261124000010_strengthen_users on rows that are older: sound ones pass, and what breaks a new rule is listed."""

import psycopg
import pytest
from django.db import IntegrityError, connection
from django.db.migrations.executor import MigrationExecutor

pytestmark = pytest.mark.once

ISSUER = "https://accounts.example.com"
# A table, the rule, the columns of a row that breaks it, and how the row is shown beside its id.
BROKEN = [
    ("users", "check_user_email", {"email": "nobody"}, '"email":"nobody"'),
    ("users", "check_user_email_reserved", {"email": "x@anonymized.invalid"}, '"email":"x@anonymized.invalid"'),
    ("users", "check_user_name", {"email": "x@example.com", "name": ""}, '"name":""'),
    ("users", "check_user_anonymized", {"email": "x@example.com", "anonymized_at": "2026-01-01+00"}, ""),
    ("user_identities", "check_user_identity_provider", {"provider": "", "provider_sub": "x"}, '"provider":""'),
    ("user_identities", "check_user_identity_provider_sub", {"provider": "x", "provider_sub": ""}, '"provider_sub":""'),
]


@pytest.fixture
def database(database_at):
    """At the version before."""
    return database_at("accounts", "0002")


@pytest.fixture
def client(server, database):
    with server.connect(database, user="keyhub") as client:
        yield client


@pytest.fixture
def migrate(manage, database):
    def migrate(*target: str):
        return manage("migrate", *target, "-v0", database=database)

    return migrate


@pytest.fixture
def alice_and_bob(client):
    """Two users with their identities."""
    client.execute("INSERT INTO users (email, name) VALUES ('Alice@example.com', 'Alice'), ('bob@example.com', NULL)")
    client.execute(
        f"INSERT INTO user_identities (user_id, provider, provider_sub) SELECT id, '{ISSUER}', email FROM users"
    )


def insert(client: psycopg.Connection, table: str, columns: dict) -> str:
    if table == "user_identities":
        (columns["user_id"],) = client.execute("SELECT id FROM users ORDER BY email LIMIT 1").fetchone()
    places = ", ".join(["%s"] * len(columns))
    statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) RETURNING id"
    return str(client.execute(statement, list(columns.values())).fetchone()[0])


def test_sound_rows_pass_and_down_and_up_again_is_the_same_schema(
    migrate, alice_and_bob, client, schema_dump, database
):
    old = schema_dump(database)
    assert migrate().returncode == 0
    new = schema_dump(database)
    assert client.execute("SELECT email FROM users ORDER BY 1").fetchall() == [
        ("Alice@example.com",),
        ("bob@example.com",),
    ]
    assert migrate("accounts", "0002").returncode == 0
    assert schema_dump(database) == old
    assert migrate().returncode == 0
    assert schema_dump(database) == new
    assert client.execute("SELECT count(*) FROM pg_constraint WHERE NOT convalidated").fetchone() == (0,)
    assert client.execute("SELECT count(*) FROM user_identities").fetchone() == (2,)


def test_users_whose_emails_differ_in_case_alone_are_listed(migrate, alice_and_bob, client):
    second = insert(client, "users", {"email": "ALICE@EXAMPLE.COM"})
    (first,) = client.execute("SELECT id::text FROM users WHERE email = 'Alice@example.com'").fetchone()
    result = migrate()
    assert result.returncode == 1
    assert "users: 2 rows break idx_users_email: {" in result.stderr
    assert f'{{"id":"{first}","email":"Alice@example.com"}}' in result.stderr
    assert f'{{"id":"{second}","email":"ALICE@EXAMPLE.COM"}}' in result.stderr
    columns = client.execute("SELECT count(*) FROM pg_attribute WHERE attname = 'email_verified_at'").fetchone()
    assert columns == (0,)
    client.execute("DELETE FROM users WHERE id = %s", [second])
    assert migrate().returncode == 0


@pytest.mark.parametrize(("table", "rule", "columns", "shown"), BROKEN, ids=[rule for _, rule, _, _ in BROKEN])
def test_a_row_that_breaks_a_rule_is_listed(connected_to, database, client, table, rule, columns, shown):
    with connected_to(database):
        MigrationExecutor(connection).migrate([("accounts", "0005_users_email_any_case")])
        insert(client, "users", {"email": "alice@example.com"})
        row_id = insert(client, table, dict(columns))
        with pytest.raises(IntegrityError) as refusal:
            MigrationExecutor(connection).migrate([("accounts", "0007_users_validate_checks")])
        message = refusal.value.__cause__.diag.message_primary
        assert message.startswith(f'{table}: 1 row breaks {rule}: {{"id":"{row_id}"')
        assert shown in message
        (_, _, query) = message.partition("List with: ")
        assert client.execute(query).rowcount == 1
        client.execute(f"DELETE FROM {table} WHERE id = %s", [row_id])
        MigrationExecutor(connection).migrate([("accounts", "0007_users_validate_checks")])
