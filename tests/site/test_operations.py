"""What operators do to rows after a question, and what the audit log then tells."""

import pytest
from django.contrib.auth.models import Group as PermissionGroup
from django.urls import reverse

from accounts.models import Operator, User
from audit.models import AuditLog
from auth_sessions.models import ConsoleSession, Session
from orgs.models import Organization
from tenancy.models import DEFAULT_ORGANIZATION_ID, Tenant, TenantJoinCode, TenantMembership
from tests.factories import (
    ConsoleSessionFactory,
    OperatorFactory,
    OrganizationDomainFactory,
    SessionFactory,
    TenantFactory,
    TenantJoinCodeFactory,
    TenantMembershipFactory,
    UserFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.once]

OPERATOR = "olivia@keyhub.test"


@pytest.fixture
def olivia():
    return OperatorFactory(email=OPERATOR, is_superuser=True)


@pytest.fixture
def admin(client, olivia):
    client.force_login(olivia)
    return client


def name_of(row) -> str:
    return f"{row._meta.app_label}_{row._meta.model_name}"


def page(row, verb: str) -> str:
    return reverse(f"admin:{name_of(row)}_operation", args=[row.pk, verb])


def change_page(row) -> str:
    return reverse(f"admin:{name_of(row)}_change", args=[row.pk])


def list_page(model) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def messages(response) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def operate(admin, row, verb: str, **options: str) -> list[str]:
    """Confirm an operation, and return what the page says afterwards."""
    return messages(admin.post(page(row, verb), {"confirmed": "yes", **options}, follow=True))


def evidence() -> list[tuple]:
    """Sorted, since one transaction has one time."""
    return sorted(
        (row.action, row.resource_id, row.organization_id, row.tenant_label or "", row.actor_label)
        for row in AuditLog.objects.all()
    )


def told(row, action: str, tenant: str = "", organization: str = DEFAULT_ORGANIZATION_ID) -> tuple:
    return (action, str(row.pk), organization, tenant, OPERATOR)


# The question


@pytest.mark.parametrize("method", ["get", "post"])
def test_nothing_happens_before_the_question_is_answered(admin, method):
    code = TenantJoinCodeFactory()
    response = getattr(admin, method)(page(code, "revoke"))
    assert response.status_code == 200
    assert "Nobody is let in by these codes any more. This cannot be undone; new codes can be issued." in response.text
    assert f'href="{change_page(code)}">Cancel</a>' in response.text
    code.refresh_from_db()
    assert (code.revoked_at, AuditLog.objects.count()) == (None, 0)


def test_what_does_not_apply_is_not_offered(admin):
    user = UserFactory()
    offered = [operation.verb for operation, _address in admin.get(change_page(user)).context["operations"]]
    assert offered == ["disable", "anonymize", "revoke_sessions"]
    user.disable()
    offered = [operation.verb for operation, _address in admin.get(change_page(user)).context["operations"]]
    assert offered == ["enable", "anonymize", "revoke_sessions"]


def test_an_operation_or_a_row_that_is_not_there(admin):
    code = TenantJoinCodeFactory()
    assert admin.get(page(code, "explode")).status_code == 404
    gone = page(code, "revoke")
    code.delete()
    assert admin.post(gone).url == "/admin/"


# Join codes


def test_a_code_is_revoked(admin):
    code = TenantJoinCodeFactory(tenant__name="Lab")
    assert operate(admin, code, "revoke") == ["Revoked: 1 of 1."]
    code.refresh_from_db()
    assert code.revoked_at is not None
    assert evidence() == [told(code, "tenant_join_code.revoke", "Lab")]
    assert operate(admin, code, "revoke") == ["Revoked: 0 of 1."]
    assert len(evidence()) == 1


def test_everything_that_a_code_gave_is_taken_back(admin, olivia):
    code = TenantJoinCode.objects.issue(tenant=TenantFactory(), max_uses=5)
    bob, dana = UserFactory(), UserFactory()
    for user in (bob, dana):
        TenantJoinCode.objects.redeem(code.code, user)
    assert operate(admin, code, "revoke", cascade="on") == ["Revoked: 1 of 1. 2 memberships were taken back."]
    assert set(TenantMembership.objects.values_list("left_reason", flat=True)) == {"code_revoked"}
    assert AuditLog.objects.get().details == {"operator": olivia.pk, "cascade": True, "memberships": 2}


def test_a_code_that_gave_the_last_admin_stays_as_it_is(admin):
    code = TenantJoinCode.objects.issue(tenant=TenantFactory(name="Lab"))
    membership = TenantJoinCode.objects.redeem(code.code, UserFactory())
    membership.change_role("admin")
    (said,) = operate(admin, code, "revoke", cascade="on")
    assert said.startswith("Nothing was changed: ")
    assert "admin" in said
    code.refresh_from_db()
    assert (code.revoked_at, evidence()) == (None, [])


def test_many_codes_are_revoked_at_once(admin):
    codes = [TenantJoinCodeFactory(tenant__name="Lab") for _ in range(3)]
    codes[0].revoke()
    selected = {"action": "revoke", "_selected_action": [code.pk for code in codes]}
    response = admin.post(list_page(TenantJoinCode), selected)
    assert [code.code in response.text for code in codes] == [True, True, True]
    assert TenantJoinCode.objects.filter(pk__in=[code.pk for code in codes], revoked_at=None).count() == 2
    response = admin.post(list_page(TenantJoinCode), selected | {"confirmed": "yes"}, follow=True)
    assert messages(response) == ["Revoked: 2 of 3."]
    assert not TenantJoinCode.objects.filter(pk__in=[code.pk for code in codes], revoked_at=None).exists()
    assert evidence() == sorted(told(code, "tenant_join_code.revoke", "Lab") for code in codes[1:])


def test_of_many_rows_the_question_names_twenty(admin):
    codes = TenantJoinCodeFactory.create_batch(23)
    response = admin.post(
        list_page(TenantJoinCode), {"action": "revoke", "_selected_action": [code.pk for code in codes]}
    )
    assert "and 3 more" in response.text
    assert sum(f"<li>{code.code}</li>" in response.text for code in codes) == 20


# Sessions


def test_a_session_is_revoked_with_its_reason(admin):
    membership = TenantMembershipFactory(tenant__name="Lab")
    session = SessionFactory(user=membership.user, active_membership=membership)
    assert operate(admin, session, "revoke", reason="stolen laptop") == ["Revoked: 1 of 1."]
    session.refresh_from_db()
    assert (session.revoked, session.revoked_reason) == (True, "stolen laptop")
    assert evidence() == [told(session, "session.revoke", "Lab")]
    assert AuditLog.objects.get().details["reason"] == "stolen laptop"


def test_a_reason_that_is_too_long_is_asked_for_again(admin):
    session = SessionFactory()
    response = admin.post(page(session, "revoke"), {"confirmed": "yes", "reason": "x" * 201})
    assert "Ensure this value has at most 200 characters (it has 201)." in response.text
    session.refresh_from_db()
    assert not session.revoked


def test_all_sessions_of_a_user_end(admin):
    user, other = UserFactory(), SessionFactory()
    SessionFactory.create_batch(2, user=user)
    assert operate(admin, user, "revoke_sessions") == ["Signed out: 1 of 1. 2 sessions have ended."]
    assert list(Session.objects.filter(revoked=False)) == [other]
    assert set(Session.objects.filter(revoked=True).values_list("revoked_reason", flat=True)) == {
        "revoked by an operator"
    }
    assert evidence() == [told(user, "user.revoke_sessions", organization="-")]
    assert operate(admin, user, "revoke_sessions") == ["Signed out: 0 of 1."]


def test_all_sessions_in_a_tenant_end(admin):
    here, elsewhere = TenantMembershipFactory(tenant__name="Lab"), TenantMembershipFactory()
    SessionFactory(user=here.user, active_membership=here)
    other = SessionFactory(user=elsewhere.user, active_membership=elsewhere)
    assert operate(admin, here.tenant, "revoke_sessions") == ["Signed out: 1 of 1. 1 session has ended."]
    assert list(Session.objects.filter(revoked=False)) == [other]
    assert evidence() == [told(here.tenant, "tenant.revoke_sessions", "Lab")]


def test_a_console_session_goes(admin):
    session = ConsoleSessionFactory()
    response = admin.post(page(session, "revoke"), {"confirmed": "yes"}, follow=True)
    assert (response.redirect_chain, messages(response)) == (
        [(list_page(ConsoleSession), 302)],
        ["Revoked: 1 of 1."],
    )
    assert not ConsoleSession.objects.exists()
    assert evidence() == [told(session, "console_session.revoke")]


# Users, members, organizations


def test_a_user_is_disabled_and_enabled(admin):
    session = SessionFactory()
    assert operate(admin, session.user, "disable") == ["Disabled: 1 of 1."]
    session.refresh_from_db()
    assert session.revoked
    assert operate(admin, session.user, "enable") == ["Enabled: 1 of 1."]
    assert User.objects.get(pk=session.user.pk).disabled_at is None
    assert [action for action, *_rest in evidence()] == ["user.disable", "user.enable"]


def test_a_user_is_anonymized(admin):
    user = UserFactory(email="bob@example.com", name="Bob")
    assert operate(admin, user, "anonymize") == ["Anonymized: 1 of 1."]
    user.refresh_from_db()
    assert (user.name, user.email) == (None, f"{user.pk}@anonymized.invalid")
    assert "bob" not in str(AuditLog.objects.values().get()).lower()


def test_the_last_admin_of_a_tenant_is_not_anonymized(admin):
    membership = TenantMembershipFactory(role="admin")
    alice = membership.user
    assert operate(admin, alice, "anonymize") == [
        f"Nothing was changed: tenant {membership.tenant_id} would be left without an admin"
    ]
    alice.refresh_from_db()
    assert (alice.anonymized_at, evidence()) == (None, [])


def test_a_member_is_removed_and_the_last_admin_is_not(admin):
    alice = TenantMembershipFactory(role="admin", tenant__name="Lab")
    bob = TenantMembershipFactory(tenant=alice.tenant)
    assert operate(admin, bob, "remove") == ["Removed: 1 of 1."]
    bob.refresh_from_db()
    assert bob.left_reason == "removed"
    assert operate(admin, alice, "remove")[0].startswith("Nothing was changed: ")
    assert evidence() == [told(bob, "tenant_membership.remove", "Lab")]


def test_an_organization_is_suspended_and_resumed(admin):
    organization = Organization.objects.get(pk=DEFAULT_ORGANIZATION_ID)
    assert operate(admin, organization, "suspend") == ["Suspended: 1 of 1."]
    assert operate(admin, organization, "resume") == ["Resumed: 1 of 1."]
    assert evidence() == [told(organization, "organization.resume"), told(organization, "organization.suspend")]


# Forms and deletions are told, too


def test_adding_changing_and_deleting_a_tenant_is_told(admin, olivia):
    data = {
        "organization_id": DEFAULT_ORGANIZATION_ID, "name": "Lab", "slug": "lab", "tenant_type": "team",
        "memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0",
    }  # fmt: skip
    admin.post(reverse("admin:tenancy_tenant_add"), data)
    tenant = Tenant.objects.get(slug="lab")
    admin.post(change_page(tenant), data | {"name": "Laboratory", "tenant_type": "laboratory"})
    admin.post(change_page(tenant), data | {"name": "Laboratory", "tenant_type": "laboratory"})  # nothing is new
    admin.post(reverse("admin:tenancy_tenant_delete", args=[tenant.pk]), {"post": "yes"})
    assert evidence() == [
        told(tenant, "tenant.add", "Lab"),
        told(tenant, "tenant.change", "Laboratory"),
        told(tenant, "tenant.delete", "Laboratory"),
    ]
    assert AuditLog.objects.get(action="tenant.change").details == {
        "operator": olivia.pk,
        "changed": ["name", "tenant_type"],
        "values": {"tenant_type": ["team", "laboratory"]},
    }


def test_what_is_changed_beneath_a_parent_is_told_by_itself(admin):
    tenant = TenantFactory(name="Lab")
    alice, bob = (TenantMembershipFactory(tenant=tenant, user=UserFactory()) for _ in range(2))
    dana = UserFactory()
    first, second = sorted([alice, bob], key=lambda row: row.pk)
    rows = {
        alice.pk: {"id": alice.pk, "role": "admin"},
        bob.pk: {"id": bob.pk, "role": "member", "DELETE": "on"},
    }
    data = {
        "organization_id": tenant.organization_id, "name": tenant.name, "slug": tenant.slug, "tenant_type": "team",
        "memberships-TOTAL_FORMS": "3", "memberships-INITIAL_FORMS": "2",
        "memberships-2-user": dana.pk, "memberships-2-role": "viewer",
    }  # fmt: skip
    for number, row in enumerate([rows[first.pk], rows[second.pk]]):
        data |= {f"memberships-{number}-{name}": value for name, value in row.items()}
    admin.post(change_page(tenant), data)
    joined = TenantMembership.objects.get(user=dana)
    assert evidence() == sorted(
        [
            told(alice, "tenant_membership.change", "Lab"),
            told(bob, "tenant_membership.delete", "Lab"),
            told(joined, "tenant_membership.add", "Lab"),
        ]
    )
    details = AuditLog.objects.get(action="tenant_membership.change").details
    assert details["values"] == {"role": ["member", "admin"]}


def test_selected_rows_that_are_deleted_are_told_one_by_one(admin):
    domains = OrganizationDomainFactory.create_batch(2)
    model = type(domains[0])
    data = {"action": "delete_selected", "_selected_action": [row.pk for row in domains], "post": "yes"}
    admin.post(list_page(model), data)
    assert not model.objects.exists()
    assert evidence() == sorted(
        told(row, "organization_domain.delete", organization=row.organization_id) for row in domains
    )


def test_an_operator_who_is_added_or_gets_a_password_is_told(admin):
    secret = "correct horse battery staple"
    admin.post(
        reverse("admin:accounts_operator_add"),
        {"email": "new@keyhub.test", "usable_password": "true", "password1": secret, "password2": secret},
    )
    change = reverse("admin:auth_user_password_change", args=[Operator.objects.get(email="new@keyhub.test").pk])
    data = {"password1": "short", "password2": "short", "usable_password": "true"}
    assert admin.post(change, data).status_code == 200
    other = "staple battery horse correct"
    assert admin.post(change, data | {"password1": other, "password2": other}).status_code == 302
    assert [action for action, *_rest in evidence()] == ["operator.add", "operator.change_password"]
    log = str(list(AuditLog.objects.values()))
    assert secret not in log
    assert other not in log


def test_a_group_of_permissions_is_none_of_a_tenants_people(admin):
    admin.post(reverse("admin:auth_group_add"), {"name": "Night shift"})
    group = PermissionGroup.objects.get()
    assert evidence() == [told(group, "permission_group.add", organization="-")]


def test_a_change_that_is_refused_leaves_no_evidence(admin):
    taken = TenantFactory(slug="taken")
    tenant = TenantFactory()
    data = {
        "organization_id": tenant.organization_id, "name": "Lab", "slug": taken.slug, "tenant_type": "team",
        "memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0",
    }  # fmt: skip
    assert admin.post(change_page(tenant), data).status_code == 200
    assert evidence() == []


def test_evidence_and_change_go_together(admin, monkeypatch):
    """Where the log takes no row, nothing is changed."""

    def refuse(*args, **kwargs):
        raise RuntimeError("the log is full")

    code = TenantJoinCodeFactory()
    monkeypatch.setattr(type(AuditLog.objects.all()), "record", refuse)
    with pytest.raises(RuntimeError):
        admin.post(page(code, "revoke"), {"confirmed": "yes"})
    code.refresh_from_db()
    assert code.revoked_at is None


@pytest.mark.parametrize(("behind_a_proxy", "address"), [(False, "127.0.0.1"), (True, "198.51.100.7")])
def test_the_address_is_the_proxys_word(admin, settings, behind_a_proxy, address):
    settings.BEHIND_TLS_PROXY = behind_a_proxy
    forwarded = "203.0.113.9, 198.51.100.7"
    admin.post(page(TenantJoinCodeFactory(), "revoke"), {"confirmed": "yes"}, HTTP_X_FORWARDED_FOR=forwarded)
    assert AuditLog.objects.get().ip_address == address
