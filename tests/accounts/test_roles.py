"""What a role gives: every permission of it is named here, so that none is given unseen."""

import pytest
from django.contrib.auth.models import AnonymousUser, Group, Permission
from django.db import IntegrityError
from django.urls import reverse

from accounts.roles import APPS, RoleBackend, permissions_of
from tests.factories import OperatorFactory, UserFactory

pytestmark = pytest.mark.django_db

TABLES = [
    "accounts.user",
    "accounts.useridentity",
    "audit.auditarchive",
    "audit.auditlog",
    "audit.auditseal",
    "auth_sessions.consolesession",
    "auth_sessions.oauthstate",
    "auth_sessions.session",
    "orgs.organization",
    "orgs.organizationdomain",
    "tenancy.group",
    "tenancy.groupmembership",
    "tenancy.tenant",
    "tenancy.tenantjoincode",
    "tenancy.tenantjoincoderedemption",
    "tenancy.tenantmembership",
]


def of_tables(*actions: str) -> set[str]:
    return {table.replace(".", f".{action}_") for table in TABLES for action in actions}


VIEWER = of_tables("view")
SUPPORT = VIEWER | {
    "tenancy.add_tenantjoincode",
    "tenancy.revoke_tenantjoincode",
    "auth_sessions.revoke_session",
    "auth_sessions.revoke_consolesession",
    "accounts.disable_user",
}
ADMIN = SUPPORT | of_tables("add", "change", "delete") | {"accounts.anonymize_user", "audit.export_auditlog"}
ROLES = [("viewer", VIEWER), ("support", SUPPORT), ("admin", ADMIN), (None, set())]


@pytest.mark.parametrize(("role", "permissions"), ROLES)
def test_a_role_gives_exactly_its_permissions(role, permissions):
    operator = OperatorFactory(role=role)
    assert operator.get_all_permissions() == permissions
    assert all(operator.has_perm(permission) for permission in permissions)
    assert operator.has_module_perms("tenancy") is bool(permissions)


@pytest.mark.parametrize(("role", "permissions"), ROLES)
def test_every_permission_of_a_role_exists(role, permissions):
    existing = {
        f"{app}.{codename}" for app, codename in Permission.objects.values_list("content_type__app_label", "codename")
    }
    assert permissions - existing == set()


def test_an_admin_has_every_permission_of_keyhub_but_those_on_operators():
    own = Permission.objects.filter(content_type__app_label__in=APPS).exclude(content_type__model="operator")
    assert permissions_of("admin") == {f"{each.content_type.app_label}.{each.codename}" for each in own}


def test_a_role_comes_on_top_of_groups_and_single_permissions():
    operator = OperatorFactory(role="viewer")
    group = Group.objects.create(name="issuers")
    group.permissions.add(Permission.objects.get(codename="add_tenantjoincode"))
    operator.groups.add(group)
    operator.user_permissions.add(Permission.objects.get(codename="view_operator"))
    assert operator.get_all_permissions() == VIEWER | {"tenancy.add_tenantjoincode", "accounts.view_operator"}


def test_a_role_says_nothing_of_single_objects():
    assert OperatorFactory(role="admin").get_all_permissions(UserFactory()) == set()


def test_who_is_switched_off_or_nobody_has_no_permission():
    assert OperatorFactory(role="admin", is_active=False).get_all_permissions() == set()
    assert RoleBackend().get_all_permissions(AnonymousUser()) == set()


def test_a_superuser_has_all():
    operator = OperatorFactory(is_superuser=True, role="viewer")
    assert operator.has_perms(ADMIN | {"accounts.change_operator"})
    assert len(operator.get_all_permissions()) == Permission.objects.count()


def test_the_database_knows_the_roles():
    with pytest.raises(IntegrityError, match="check_operator_role"):
        OperatorFactory(role="root")


def test_only_a_superuser_gives_roles(client):
    operator, admin = OperatorFactory(), OperatorFactory(role="admin")
    page = reverse("admin:accounts_operator_change", args=[operator.pk])
    data = {"email": operator.email, "is_active": "on", "role": "support"}
    client.force_login(admin)
    assert client.post(page, data).status_code == 403
    client.force_login(OperatorFactory(is_superuser=True))
    assert client.post(page, data).status_code == 302
    operator.refresh_from_db()
    assert operator.role == "support"
    assert client.post(page, {**data, "role": ""}).status_code == 302
    operator.refresh_from_db()
    assert operator.role is None
