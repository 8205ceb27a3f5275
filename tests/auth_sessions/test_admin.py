"""Sessions are looked at, never edited, and their secrets are not to be seen or guessed."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from auth_sessions.tokens import digest
from tests.factories import (
    ConsoleSessionFactory,
    OAuthStateFactory,
    OperatorFactory,
    SessionFactory,
    UserFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.once]

# (factory, model name, the columns that whoever knows them can use)
TABLES = [
    pytest.param(SessionFactory, "session", ["session_id"], id="session"),
    pytest.param(
        OAuthStateFactory, "oauthstate", ["state", "browser_digest", "code_verifier", "nonce"], id="oauthstate"
    ),
    pytest.param(ConsoleSessionFactory, "consolesession", ["session_id"], id="consolesession"),
]


DIGESTS = {"session_id", "state", "browser_digest"}


def secret(column: str) -> str:
    """What stands in a secret column."""
    return digest(f"secret-{column}") if column in DIGESTS else f"secret-{column}"


@pytest.fixture
def admin(client):
    client.force_login(OperatorFactory(is_superuser=True))
    return client


def url(page: str, *arguments) -> str:
    return reverse(f"admin:auth_sessions_{page}", args=arguments)


@pytest.mark.parametrize(("row_factory", "model_name", "secrets"), TABLES)
def test_rows_are_read_only(admin, row_factory, model_name, secrets):
    row = row_factory()
    assert admin.get(url(f"{model_name}_add")).status_code == 403
    assert admin.post(url(f"{model_name}_add"), {}).status_code == 403
    assert admin.post(url(f"{model_name}_change", row.pk), {}).status_code == 403
    assert admin.post(url(f"{model_name}_delete", row.pk), {"post": "yes"}).status_code == 403
    response = admin.get(url(f"{model_name}_changelist"))
    assert "delete_selected" not in response.text
    assert list(response.context["cl"].result_list) == [row]


@pytest.mark.parametrize(("row_factory", "model_name", "secrets"), TABLES)
def test_secrets_are_never_shown(admin, row_factory, model_name, secrets):
    row = row_factory(**{column: secret(column) for column in secrets})
    pages = [
        url(f"{model_name}_changelist"),
        url(f"{model_name}_change", row.pk),
        url(f"{model_name}_history", row.pk),
    ]
    for page in pages:
        response = admin.get(page)
        assert response.status_code == 200
        assert str(row.pk) in response.text
        assert [column for column in secrets if secret(column) in response.text] == []


@pytest.mark.parametrize(("row_factory", "model_name", "secrets"), TABLES)
def test_secrets_are_not_found_letter_by_letter(admin, row_factory, model_name, secrets):
    row_factory(**{column: secret(column) for column in secrets})
    page = url(f"{model_name}_changelist")
    for column in secrets:
        for lookup in ("exact", "startswith", "contains", "gt", "regex"):
            assert admin.get(page, {f"{column}__{lookup}": "s"}).status_code == 400
        assert admin.get(page, {column: secret(column)}).status_code == 400
        found = [
            list(admin.get(page, {"q": term}).context["cl"].result_list)
            for term in (secret(column)[:6], secret(column), "something else")
        ]
        assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("page", ["accounts_user", "tenancy_tenantmembership"])
def test_secrets_are_not_found_by_way_of_other_tables(admin, page):
    SessionFactory()
    response = admin.get(reverse(f"admin:{page}_changelist"), {"sessions__session_id__startswith": "s"})
    assert response.status_code == 400


@pytest.mark.parametrize(("row_factory", "model_name", "secrets"), TABLES)
def test_nothing_is_counted_and_no_order_is_taken_from_the_address(admin, row_factory, model_name, secrets):
    row_factory.create_batch(3)
    with CaptureQueriesContext(connection) as captured:
        admin.get(url(f"{model_name}_changelist"), {"_facets": "True", "o": "1.2.3", "all": ""})
    statements = [query["sql"] for query in captured.captured_queries if 'FROM "' in query["sql"]]
    assert [sql for sql in statements if "COUNT(" in sql or "OFFSET" in sql] == []
    time = "created_at" if model_name == "oauthstate" else "expires_at"
    (listing,) = [sql for sql in statements if f'."{time}" DESC' in sql]
    assert f'."{time}" DESC, ' in listing.split(" ORDER BY ")[1]


def test_a_session_is_found_by_the_email_of_its_user_and_by_its_id(admin):
    alice, bob = (SessionFactory(user=UserFactory(email=f"{name}@example.com")) for name in ("alice", "bob"))
    page = url("session_changelist")
    assert list(admin.get(page, {"q": "alice@example.com"}).context["cl"].result_list) == [alice]
    assert list(admin.get(page, {"q": str(bob.pk)}).context["cl"].result_list) == [bob]
    assert list(admin.get(page, {"q": "example.com"}).context["cl"].result_list) == []


def test_sessions_are_filtered_by_whether_they_are_revoked(admin):
    SessionFactory()
    revoked = SessionFactory(revoked=True)
    response = admin.get(url("session_changelist"), {"revoked__exact": "1"})
    assert list(response.context["cl"].result_list) == [revoked]


def test_console_sessions_are_filtered_by_organization(admin):
    session = ConsoleSessionFactory()
    page = url("consolesession_changelist")
    assert list(admin.get(page, {"organization_id": session.organization_id}).context["cl"].result_list) == [session]
    assert list(admin.get(page, {"organization_id": "ORG-NONE"}).context["cl"].result_list) == []
