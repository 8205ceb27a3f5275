"""How much the pages of the site ask of the database: as much of a thousand rows as of ten, and never all of them."""

from hashlib import md5
from uuid import UUID

import pytest
from django.contrib import admin
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import User
from auth_sessions.models import Session
from keyhub.admin import KeyHubAdmin, page_of_list, page_of_row
from keyhub.admin.model_admin import MOST_ROWS_OF_AN_INLINE
from orgs.models import Organization
from tenancy.models import Group, Tenant, TenantJoinCode
from tests.factories import OperatorFactory
from tests.site.statements import is_unbounded

pytestmark = [pytest.mark.django_db, pytest.mark.once]

SIZES = ((1, 10), (11, 1_000))
OF_A_LIST = {
    "accounts.User": 3,
    "accounts.UserIdentity": 3,
    "audit.AuditLog": 4,
    "auth_sessions.ConsoleSession": 4,
    "auth_sessions.OAuthState": 3,
    "auth_sessions.Session": 3,
    "orgs.Organization": 3,
    "orgs.OrganizationDomain": 3,
    "tenancy.Group": 3,
    "tenancy.GroupMembership": 3,
    "tenancy.Tenant": 4,
    "tenancy.TenantJoinCode": 3,
    "tenancy.TenantMembership": 3,
}
OF_A_PAGE = {
    "accounts.User": 7,
    "accounts.UserIdentity": 2,
    "audit.AuditLog": 1,
    "auth_sessions.ConsoleSession": 1,
    "auth_sessions.OAuthState": 1,
    "auth_sessions.Session": 5,
    "orgs.Organization": 5,
    "orgs.OrganizationDomain": 2,
    "tenancy.Group": 5,
    "tenancy.GroupMembership": 3,
    "tenancy.Tenant": 11,
    "tenancy.TenantJoinCode": 8,
    "tenancy.TenantMembership": 3,
}
# Rows that are too many for forms are shown by a link or a section.
OF_A_CROWDED_PAGE = {"accounts.User": 6, "orgs.Organization": 4, "tenancy.Group": 4, "tenancy.Tenant": 9}
OF_THE_START_PAGE = 99
NUMBERED = {User: "user", Tenant: "tenant", Group: "group", TenantJoinCode: "code", Session: "session"}
# Who asks, and what Django looks up once in each process.
NOT_OF_A_PAGE = ("django_session", '"operators"', "otp_", "axes_", "django_content_type")

# From one number to another, about the organization, the tenant, the group, the code and the user of number 1.
ROWS = """
    INSERT INTO organizations (id, name, slug) SELECT 'ORG-' || n, 'Organization ' || n, 'org-' || n FROM numbers;
    INSERT INTO organization_domains (organization_id, domain) SELECT 'ORG-1', 'd' || n || '.example' FROM numbers;
    INSERT INTO tenants (id, organization_id, name, slug)
        SELECT id_of('tenant', n), 'ORG-1', 'Team ' || n, 'team-' || n FROM numbers;
    INSERT INTO users (id, email, name) SELECT id_of('user', n), 'person' || n || '@example.com', 'P ' || n
        FROM numbers;
    INSERT INTO user_identities (user_id, provider, provider_sub)
        SELECT id_of('user', 1), 'https://accounts.example.com', n FROM numbers;
    INSERT INTO tenant_memberships (id, tenant_id, user_id)
        SELECT id_of('membership', n), id_of('tenant', 1), id_of('user', n) FROM numbers
        UNION ALL SELECT gen_random_uuid(), id_of('tenant', n), id_of('user', 1) FROM numbers WHERE n > 1;
    INSERT INTO tenant_join_codes (id, tenant_id, code, created_by)
        SELECT id_of('code', n), id_of('tenant', 1), 'KH-' || n, id_of('user', n) FROM numbers;
    INSERT INTO tenant_join_code_redemptions (join_code_id, membership_id, user_id)
        SELECT id_of('code', 1), id_of('membership', n), id_of('user', n) FROM numbers;
    UPDATE tenant_join_codes SET used_count = 1 WHERE id = id_of('code', 1);
    INSERT INTO groups (id, tenant_id, name, parent_group_id)
        SELECT id_of('group', n), id_of('tenant', 1), 'Group ' || n, CASE WHEN n > 1 THEN id_of('group', 1) END
        FROM numbers ORDER BY n;
    INSERT INTO group_memberships (group_id, user_id) SELECT id_of('group', 1), id_of('user', n) FROM numbers;
    INSERT INTO sessions (id, session_id, user_id, active_membership_id, expires_at)
        SELECT id_of('session', n), encode(sha256(n::text::bytea), 'hex'), id_of('user', 1), id_of('membership', 1),
            statement_timestamp() + interval '1 hour' FROM numbers;
    INSERT INTO oauth_states (state, code_verifier, nonce) SELECT encode(sha256(n::text::bytea), 'hex'), 'v', 'n'
        FROM numbers;
    INSERT INTO console_sessions (session_id, organization_id, expires_at)
        SELECT encode(sha256(n::text::bytea), 'hex'), 'ORG-1', statement_timestamp() + interval '1 hour' FROM numbers;
    INSERT INTO audit_logs (organization_id, tenant_id, user_id, action, resource_type, resource_id)
        SELECT 'ORG-1', id_of('tenant', 1), id_of('user', 1), 'user.login', kind, id_of(kind, 1)
        FROM numbers, unnest(ARRAY['tenant', 'user', 'session']) AS kind, generate_series(1, 2);
"""
FUNCTION = """
    CREATE FUNCTION id_of(kind text, number bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
        RETURN md5(kind || number)::uuid
"""


def fill(first: int, last: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY VIEW numbers AS SELECT n FROM generate_series({first}, {last}) AS n")
        cursor.execute(ROWS)
        cursor.execute("DROP VIEW numbers")


@pytest.fixture
def operator(client):
    with connection.cursor() as cursor:
        cursor.execute(FUNCTION)
    client.force_login(OperatorFactory(is_superuser=True))
    return client


def queries_of(operator, address: str) -> int:
    """How many a page takes. None of them may be unbounded."""
    with CaptureQueriesContext(connection) as captured:
        response = operator.get(address)
    assert response.status_code == 200
    statements = [each["sql"] for each in captured if "SAVEPOINT" not in each["sql"]]
    assert [statement for statement in statements if is_unbounded(statement)] == []
    return len([statement for statement in statements if not any(name in statement for name in NOT_OF_A_PAGE)])


def lists() -> list[type]:
    return [model for model, model_admin in admin.site._registry.items() if isinstance(model_admin, KeyHubAdmin)]


def row_of(model: type) -> object:
    """The row that has all the others around it."""
    if model in NUMBERED:
        return model.objects.get(pk=UUID(md5(f"{NUMBERED[model]}1".encode(), usedforsecurity=False).hexdigest()))
    return model.objects.get(pk="ORG-1") if model is Organization else model.objects.first()


def test_lists_ask_as_much_whatever_their_length(operator):
    for first, last in SIZES:
        fill(first, last)
        assert {model._meta.label: queries_of(operator, page_of_list(model)) for model in lists()} == OF_A_LIST


@pytest.mark.parametrize(("sizes", "expected"), [(SIZES[:1], OF_A_PAGE), (SIZES, OF_A_PAGE | OF_A_CROWDED_PAGE)])
def test_pages_of_rows_ask_as_much_whatever_is_around_them(operator, sizes, expected):
    for first, last in sizes:
        fill(first, last)
    assert {model._meta.label: queries_of(operator, page_of_row(row_of(model))) for model in lists()} == expected


def test_forms_beneath_a_row_ask_as_much_for_each_number_of_them(operator):
    fill(1, MOST_ROWS_OF_AN_INLINE)
    assert {model._meta.label: queries_of(operator, page_of_row(row_of(model))) for model in lists()} == OF_A_PAGE


def test_the_start_page_asks_as_much_whatever_it_counts(operator):
    for first, last in SIZES:
        fill(first, last)
        cache.clear()
        assert [queries_of(operator, reverse("admin:index")) for _ in range(2)] == [OF_THE_START_PAGE, 0]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT * FROM users ORDER BY id LIMIT 50 OFFSET 100", True),
        ('SELECT COUNT(*) AS "__count" FROM "users"', True),
        ("SELECT COUNT(*) FROM (SELECT id FROM users) rows LIMIT 1", True),
        ("SELECT (SELECT count(*) FROM (SELECT id FROM users) AS counted) LIMIT 50", True),
        ('SELECT COUNT(*) FROM (SELECT (1) AS "a" FROM "users" LIMIT 10001) subquery', False),
        ("SELECT (SELECT count(*) FROM (SELECT id FROM users WHERE (a OR b) LIMIT 1001) AS counted)", False),
        ("SELECT used_count FROM tenant_join_codes WHERE used_count > 0 LIMIT 50", False),
    ],
)
def test_what_is_unbounded(statement, expected):
    assert is_unbounded(statement) is expected
