"""Who may enter the admin, and what operators do to users there."""

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.urls import reverse

from accounts.models import Operator, User, UserIdentity
from auth_sessions.models import Session
from tests.factories import (
    GroupFactory,
    GroupMembershipFactory,
    OperatorFactory,
    OrganizationDomainFactory,
    SessionFactory,
    TenantJoinCodeFactory,
    TenantMembershipFactory,
    UserFactory,
    UserIdentityFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.once]

PASSWORD = "correct horse battery staple"
NO_IDENTITIES = {"identities-TOTAL_FORMS": "0", "identities-INITIAL_FORMS": "0"}
CHANGELISTS = [
    "accounts_operator",
    "accounts_user",
    "accounts_useridentity",
    "audit_auditlog",
    "auth_sessions_consolesession",
    "auth_sessions_oauthstate",
    "auth_sessions_session",
    "orgs_organization",
    "orgs_organizationdomain",
    "tenancy_group",
    "tenancy_groupmembership",
    "tenancy_tenant",
    "tenancy_tenantjoincode",
    "tenancy_tenantmembership",
]


@pytest.fixture
def admin(client):
    client.force_login(OperatorFactory(is_superuser=True))
    return client


def log_in(client, email: str, password: str = PASSWORD):
    return client.post("/admin/login/?next=/admin/", {"username": email, "password": password}, follow=True)


def url(page: str, *arguments) -> str:
    return reverse(f"admin:{page}", args=arguments)


# Entering


def test_an_operator_logs_in_with_email_and_password(client):
    Operator.objects.create_superuser("operator@keyhub.test", PASSWORD)
    response = log_in(client, "Operator@KeyHub.test")
    assert response.redirect_chain == [("/admin/", 302)]
    assert response.context["user"].email == "operator@keyhub.test"
    assert response.context["title"] == "Site administration"


@pytest.mark.parametrize("password", ["", "wrong", PASSWORD])
def test_a_disabled_operator_cannot_log_in(client, password):
    Operator.objects.create_superuser("operator@keyhub.test", PASSWORD, is_active=False)
    form = log_in(client, "operator@keyhub.test", password).context["form"]
    sentence = (
        "Please enter the correct email and password for a staff account. Note that both fields may be case-sensitive."
    )
    assert form.errors == ({"__all__": [sentence]} if password else {"password": ["This field is required."]})


def test_disabling_an_operator_ends_what_is_open(admin):
    assert admin.get("/admin/").status_code == 200
    Operator.objects.update(is_active=False)
    assert admin.get("/admin/").url == "/admin/login/?next=/admin/"


def test_an_operator_without_permissions_sees_nothing(client):
    client.force_login(OperatorFactory())
    response = client.get("/admin/")
    assert response.context["app_list"] == []
    assert "You don’t have permission to view or edit anything." in response.text
    assert [client.get(url(f"{page}_changelist")).status_code for page in CHANGELISTS] == [403] * len(CHANGELISTS)


def test_every_list_opens_for_a_superuser(admin):
    assert [admin.get(url(f"{page}_changelist")).status_code for page in CHANGELISTS] == [200] * len(CHANGELISTS)


def test_who_may_only_look_opens_every_row_and_saves_none(client):
    clerk = OperatorFactory()
    clerk.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(clerk)
    membership = TenantMembershipFactory()
    rows = [
        membership,
        membership.tenant,
        membership.user,
        UserIdentityFactory(user=membership.user),
        TenantJoinCodeFactory(tenant=membership.tenant),
        GroupMembershipFactory(group__tenant=membership.tenant).group,
        SessionFactory(),
        OrganizationDomainFactory().organization,
    ]
    for row in rows:
        page = url(f"{row._meta.app_label}_{row._meta.model_name}_change", row.pk)
        response = client.get(page)
        assert response.context["title"] == f"View {row._meta.verbose_name}"
        assert 'name="_save"' not in response.text
        assert client.post(page, {}).status_code == 403


# Operators


def test_an_operator_is_added_changed_and_logs_in(admin, client):
    response = admin.post(
        url("accounts_operator_add"),
        {"email": "New@KeyHub.test", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD},
    )
    operator = Operator.objects.get(email="new@keyhub.test")
    assert response.url == url("accounts_operator_change", operator.pk)
    assert (operator.is_active, operator.is_superuser) == (True, False)

    response = admin.get(response.url)
    assert operator.password not in response.text
    assert 'href="../password/"' in response.text
    assert "hash" in response.text

    response = admin.post(
        url("accounts_operator_change", operator.pk), {"email": "new@keyhub.test", "name": "New", "is_active": "on"}
    )
    assert response.url == url("accounts_operator_changelist")
    operator.refresh_from_db()
    assert (operator.name, operator.check_password(PASSWORD)) == ("New", True)

    client.logout()
    assert log_in(client, "new@keyhub.test").redirect_chain == [("/admin/", 302)]


def test_an_operator_is_added_without_a_password(admin):
    admin.post(url("accounts_operator_add"), {"email": "new@keyhub.test", "usable_password": "false"})
    assert Operator.objects.get(email="new@keyhub.test").has_usable_password() is False


def test_a_password_is_changed(admin, client):
    operator = Operator.objects.create_superuser("operator@keyhub.test", PASSWORD)
    page = url("auth_user_password_change", operator.pk)
    assert admin.get(page).context["title"] == "Change password: operator@keyhub.test"
    response = admin.post(page, {"password1": "short", "password2": "short", "usable_password": "true"})
    assert response.context["form"].errors == {
        "password2": [
            "This password is too short. It must contain at least 12 characters.",
        ]
    }
    changed = "staple battery horse correct"
    response = admin.post(page, {"password1": changed, "password2": changed, "usable_password": "true"})
    assert response.url == url("accounts_operator_change", operator.pk)

    client.logout()
    assert log_in(client, "operator@keyhub.test").redirect_chain == []
    assert log_in(client, "operator@keyhub.test", changed).redirect_chain == [("/admin/", 302)]


def test_two_operators_do_not_share_an_email(admin):
    OperatorFactory(email="operator@keyhub.test")
    response = admin.post(
        url("accounts_operator_add"),
        {"email": "OPERATOR@keyhub.test", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD},
    )
    assert response.context["adminform"].form.errors == {"__all__": ["There is already an operator with this e-mail."]}


def test_an_operator_is_switched_off_never_deleted(admin):
    operator = OperatorFactory()
    assert admin.get(url("accounts_operator_delete", operator.pk)).status_code == 403
    assert "delete_selected" not in admin.get(url("accounts_operator_changelist")).text


def test_only_a_superuser_manages_operators(client):
    """Whoever sets another operator's password or rights could take them."""
    clerk, root = OperatorFactory(), OperatorFactory(is_superuser=True)
    clerk.user_permissions.set(Permission.objects.filter(content_type__app_label="accounts"))
    client.force_login(clerk)
    assert [app["app_label"] for app in client.get("/admin/").context["app_list"]] == ["accounts"]
    assert client.get(url("accounts_user_changelist")).status_code == 200
    pages = [
        url("accounts_operator_changelist"),
        url("accounts_operator_add"),
        url("accounts_operator_change", root.pk),
        url("auth_user_password_change", root.pk),
    ]
    assert [client.get(page).status_code for page in pages] == [403, 403, 403, 403]
    assert client.post(url("accounts_operator_change", clerk.pk), {"is_superuser": "on"}).status_code == 403


# Users


def test_a_user_is_added_with_an_identity(admin):
    response = admin.post(
        url("accounts_user_add"),
        {
            "email": "alice@example.com",
            "name": "",
            "icon": "",
            "identities-TOTAL_FORMS": "1",
            "identities-INITIAL_FORMS": "0",
            "identities-0-provider": "https://accounts.example.com",
            "identities-0-provider_sub": "alice",
        },
    )
    assert response.url == url("accounts_user_changelist")
    alice = User.objects.get()
    assert (alice.email, alice.name, alice.icon) == ("alice@example.com", None, None)
    assert [str(identity) for identity in alice.identities.all()] == ["https://accounts.example.com:alice"]


def test_short_texts_have_one_line(admin):
    form = admin.get(url("accounts_user_add")).context["adminform"].form
    assert [form.fields[name].widget.input_type for name in ("email", "name", "icon")] == ["text"] * 3


def test_two_users_do_not_share_an_email(admin):
    UserFactory(email="alice@example.com")
    response = admin.post(url("accounts_user_add"), {"email": "alice@example.com", **NO_IDENTITIES})
    assert response.context["adminform"].form.errors == {"__all__": ["There is already a user with this e-mail."]}


def test_an_outside_identity_belongs_to_one_user(admin):
    taken, bob = UserIdentityFactory(), UserFactory(email="bob@example.com")
    response = admin.post(
        url("accounts_useridentity_add"),
        {"user": bob.pk, "provider": taken.provider, "provider_sub": taken.provider_sub},
    )
    assert response.context["adminform"].form.errors == {
        "__all__": ["This outside identity already belongs to a user."]
    }


def test_an_identity_does_not_move_to_another_user(admin):
    identity, bob = UserIdentityFactory(), UserFactory()
    page = url("accounts_useridentity_change", identity.pk)
    assert list(admin.get(page).context["adminform"].form.fields) == ["provider", "provider_sub"]
    admin.post(page, {"user": bob.pk, "provider": "https://other.example.com", "provider_sub": "sub"})
    moved = UserIdentity.objects.get()
    assert (moved.provider, moved.user_id) == ("https://other.example.com", identity.user_id)


@pytest.mark.parametrize("term", ["ALICE@", "liddell", "{id}", " {id} "])
def test_a_user_is_found_by_email_name_and_id(admin, term):
    alice = UserFactory(email="alice@example.com", name="Alice Liddell")
    UserFactory(email="charlie@example.com", name="Charlie")
    response = admin.get(url("accounts_user_changelist"), {"q": term.format(id=alice.pk)})
    assert list(response.context["cl"].result_list) == [alice]


def test_a_user_is_completed_by_email(admin):
    alice = UserFactory(email="alice@example.com")
    UserFactory(email="bob@example.com")
    source = {"app_label": "accounts", "model_name": "useridentity", "field_name": "user"}
    assert admin.get("/admin/autocomplete/", {"term": "alice", **source}).json() == {
        "results": [{"id": str(alice.pk), "text": "alice@example.com"}],
        "pagination": {"more": False},
    }


def has_one_of_each(user: User) -> None:
    UserIdentityFactory(user=user)
    membership = TenantMembershipFactory(user=user)
    SessionFactory(user=user, active_membership=membership)
    GroupMembershipFactory(user=user, group=GroupFactory(tenant=membership.tenant))
    TenantJoinCodeFactory(created_by=user)


def test_deleting_a_user_says_what_goes_along(admin):
    alice, bob = UserFactory(email="alice@example.com"), UserFactory(email="bob@example.com")
    for user in (alice, bob):
        has_one_of_each(user)
    page = url("accounts_user_delete", alice.pk)
    response = admin.get(page)
    assert dict(response.context["model_count"]) == {
        "users": "1",
        "group memberships": "1",
        "sessions": "1",
        "tenant memberships": "1",
        "user identities": "1",
    }
    assert response.context["deleted_objects"] == [
        f'User: <a href="{url("accounts_user_change", alice.pk)}">alice@example.com</a>',
        "Tenant join codes that stay, with “created by” emptied: 1",
    ]
    assert admin.post(page, {"post": "yes"}).url == url("accounts_user_changelist")
    assert not User.objects.filter(pk=alice.pk).exists()
    assert Session.objects.get().user == bob


def test_deleting_selected_users_says_what_goes_along(admin):
    alice, bob, charlie = users = UserFactory.create_batch(3)
    for user in users:
        has_one_of_each(user)
    selected = {"action": "delete_selected", "_selected_action": [alice.pk, bob.pk]}
    response = admin.post(url("accounts_user_changelist"), selected)
    assert {count for _, count in response.context["model_count"]} == {"2"}
    assert "Tenant join codes that stay, with “created by” emptied: 2" in response.text
    admin.post(url("accounts_user_changelist"), {**selected, "post": "yes"})
    assert Session.objects.get().user == charlie


def test_the_delete_page_knows_tables_that_have_no_model(admin):
    """It asks the catalogue: keys of several columns, SET NULL of one of them, rows that go by another key, a ring."""
    membership = TenantMembershipFactory()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE TABLE badges (owner_id uuid REFERENCES users ON DELETE CASCADE, printed_for uuid REFERENCES users);
            CREATE TABLE desks (
                tenant_id uuid, user_id uuid,
                FOREIGN KEY (tenant_id, user_id) REFERENCES tenant_memberships (tenant_id, user_id)
                    ON DELETE SET NULL (user_id)
            );
            CREATE TABLE pairs (
                id integer PRIMARY KEY,
                owner_id uuid REFERENCES users ON DELETE CASCADE,
                other_id integer REFERENCES pairs ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
            );
            INSERT INTO pairs SELECT 1, id, 2 FROM users UNION ALL SELECT 2, NULL, 1;
            INSERT INTO badges SELECT id, id FROM users;
            INSERT INTO desks SELECT tenant_id, user_id FROM tenant_memberships;
            """
        )
        page = url("accounts_user_delete", membership.user_id)
        response = admin.get(page)
        assert dict(response.context["model_count"]) == {
            "users": "1",
            "badges": "1",
            "pairs": "2",
            "tenant memberships": "1",
        }
        assert response.context["deleted_objects"][1:] == ["Desks that stay, with “user_id” emptied: 1"]
        assert response.context["protected"] == []
        assert admin.post(page, {"post": "yes"}).status_code == 302
        cursor.execute("SELECT (SELECT count(*) FROM badges), (SELECT count(*) FROM pairs), * FROM desks")
        assert cursor.fetchall() == [(0, 0, membership.tenant_id, None)]


def test_deleting_needs_the_right_to_delete_what_goes_along(client):
    clerk, alice = OperatorFactory(), UserFactory()
    clerk.user_permissions.set(Permission.objects.filter(content_type__app_label="accounts"))
    client.force_login(clerk)
    page = url("accounts_user_delete", alice.pk)
    assert client.get(page).context["perms_lacking"] == set()
    TenantMembershipFactory(user=alice)
    assert client.get(page).context["perms_lacking"] == {"tenant membership"}
    assert client.post(page, {"post": "yes"}).status_code == 403
    assert User.objects.filter(pk=alice.pk).exists()


def test_an_identity_is_found_by_what_the_provider_calls_it_also_by_what_looks_like_an_id(admin):
    outside = "0f8fad5b-d9cb-469f-a165-70867728950e"
    alices = UserIdentityFactory(user__email="alice@example.com", provider_sub=outside)
    bobs = UserIdentityFactory(user__email="bob@example.com", provider_sub="alice@example.com")
    expected = {
        outside: {alices},
        outside.upper(): set(),
        str(bobs.pk): {bobs},
        "Alice@Example.com": {alices},
        "alice@example.com": {alices, bobs},
        "bob@": {bobs},
    }
    found = {
        term: set(admin.get(url("accounts_useridentity_changelist"), {"q": term}).context["cl"].result_list)
        for term in expected
    }
    assert found == expected
