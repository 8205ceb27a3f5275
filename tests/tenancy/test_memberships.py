"""Leaving, removing and changing members: a tenant that has an admin keeps one, whoever writes."""

import pytest
from django.db import IntegrityError, transaction

from tenancy.join_codes import RefusedUserError
from tenancy.memberships import LastAdminError, NotAMemberError
from tenancy.models import GroupMembership, Tenant, TenantJoinCode, TenantMembership
from tests.factories import GroupMembershipFactory, TenantFactory, TenantMembershipFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return TenantFactory()


@pytest.fixture
def alice(tenant):
    return TenantMembershipFactory(tenant=tenant, role="admin")


@pytest.fixture
def bob(tenant):
    return TenantMembershipFactory(tenant=tenant)


def refusal_of(tenant) -> str:
    return (
        f"tenant {tenant.pk} would be left without an admin. Make somebody else an admin first, or delete the tenant."
    )


def test_a_member_leaves_and_is_told_apart_from_the_active(tenant, alice, bob):
    bob.leave()
    assert (bob.left_reason, bob.left_at is None) == ("left", False)
    assert list(TenantMembership.objects.active().filter(tenant=tenant)) == [alice]
    with pytest.raises(NotAMemberError) as refusal:
        bob.leave()
    assert str(refusal.value) == f"Membership {bob.pk} has ended: only an active one can be changed."


@pytest.mark.parametrize(
    "how", [lambda row: row.leave(), lambda row: row.remove(), lambda row: row.change_role("viewer")]
)
def test_the_last_admin_stays(tenant, alice, bob, how):
    with pytest.raises(LastAdminError) as refusal:
        how(alice)
    assert str(refusal.value) == refusal_of(tenant)
    bob.change_role("admin")
    assert bob.role == "admin"
    how(alice)
    assert TenantMembership.objects.active().filter(tenant=tenant, role="admin").get() == bob


def test_a_tenant_without_an_admin_may_stay_so(bob):
    bob.leave()
    assert bob.left_reason == "left"


def test_there_is_no_such_role(bob):
    with pytest.raises(ValueError, match=r"'owner' is not a valid TenantMembership.Role"):
        bob.change_role("owner")


@pytest.mark.parametrize(
    "writes",
    [
        lambda rows: rows.update(role="member"),
        lambda rows: rows.update(left_at="2026-11-24T00:00:00Z"),
        lambda rows: rows.delete(),
        lambda rows: rows.get().user.delete(),
    ],
    ids=["role", "left_at", "delete", "delete the user"],
)
def test_the_last_admin_stays_whoever_writes(tenant, alice, bob, writes):
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        writes(TenantMembership.objects.filter(pk=alice.pk))
    diagnostics = refusal.value.__cause__.diag
    assert (diagnostics.sqlstate, diagnostics.constraint_name) == ("23514", "tenants_keep_an_admin")
    TenantMembershipFactory(tenant=tenant, role="admin")
    writes(TenantMembership.objects.filter(pk=alice.pk))


def test_all_admins_in_one_statement(tenant, alice):
    TenantMembershipFactory(tenant=tenant, role="admin")
    with pytest.raises(IntegrityError, match="left without an admin"), transaction.atomic():
        TenantMembership.objects.filter(tenant=tenant).update(role="viewer")


def test_a_tenant_is_deleted_with_its_admins(tenant, alice, bob):
    Tenant.objects.filter(pk=tenant.pk).delete()
    assert not TenantMembership.objects.filter(pk__in=[alice.pk, bob.pk]).exists()


def test_coming_back_clears_the_reason_whoever_writes(bob):
    bob.remove()
    TenantMembership.objects.filter(pk=bob.pk).update(left_at=None)
    bob.refresh_from_db()
    assert (bob.left_at, bob.left_reason) == (None, None)


def test_a_reason_without_having_left(bob):
    with pytest.raises(IntegrityError, match="check_left_reason"), transaction.atomic():
        TenantMembership.objects.filter(pk=bob.pk).update(left_reason="removed")


def test_an_anonymized_user_is_nobodys_member_unless_the_last_admin(tenant, alice, bob):
    set_anonymized = {"disabled_at": "2026-11-24T00:00:00Z", "anonymized_at": "2026-11-24T00:00:00Z"}
    users = type(bob.user).objects
    users.filter(pk=bob.user_id).update(**set_anonymized)
    bob.refresh_from_db()
    assert bob.left_reason == "left"
    with pytest.raises(IntegrityError, match="left without an admin"), transaction.atomic():
        users.filter(pk=alice.user_id).update(**set_anonymized)


# Groups' members


def test_a_member_of_a_group_is_one_of_its_tenant():
    membership = GroupMembershipFactory()
    membership.refresh_from_db()
    assert membership.tenant_id == membership.group.tenant_id
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        GroupMembership.objects.create(group=membership.group, user=UserFactory())
    assert refusal.value.__cause__.diag.constraint_name == "group_members_are_members"


def test_whoever_leaves_a_tenant_leaves_its_groups_and_no_others():
    here = GroupMembershipFactory()
    elsewhere = GroupMembershipFactory(user=here.user)
    TenantMembership.objects.get(tenant=here.group.tenant, user=here.user).leave()
    assert list(GroupMembership.objects.filter(user=here.user)) == [elsewhere]
    with pytest.raises(IntegrityError, match="is no member of the group's tenant"), transaction.atomic():
        GroupMembership.objects.create(group=here.group, user=here.user)


def test_no_writer_says_another_tenant_than_the_groups(bob):
    membership = GroupMembershipFactory()
    GroupMembership.objects.filter(pk=membership.pk).update(tenant_id=bob.tenant_id)
    membership.refresh_from_db()
    assert membership.tenant_id == membership.group.tenant_id


@pytest.mark.parametrize("column", ["tenant", "user"])
def test_a_membership_stays_in_its_tenant_and_with_its_user(bob, column):
    other = TenantFactory() if column == "tenant" else UserFactory()
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        TenantMembership.objects.filter(pk=bob.pk).update(**{column: other})
    assert refusal.value.__cause__.diag.constraint_name == "tenant_memberships_stay"


def test_whoever_has_left_can_still_be_barred(tenant, bob):
    bob.leave()
    left_at = bob.left_at
    bob.remove()
    assert (bob.left_reason, bob.left_at) == ("removed", left_at)
    with pytest.raises(NotAMemberError):
        bob.remove()
    code = TenantJoinCode.objects.issue(tenant=tenant)
    with pytest.raises(RefusedUserError):
        TenantJoinCode.objects.redeem(code.code, bob.user)


def test_an_anonymized_user_becomes_nobodys_member(tenant, bob):
    bob.user.anonymize()
    other = TenantFactory()
    code = TenantJoinCode.objects.issue(tenant=other)
    with pytest.raises(RefusedUserError):
        TenantJoinCode.objects.redeem(code.code, bob.user)
    for write in (
        lambda: TenantMembershipFactory(tenant=other, user=bob.user),
        lambda: TenantMembership.objects.filter(pk=bob.pk).update(left_at=None),
    ):
        with pytest.raises(IntegrityError) as refusal, transaction.atomic():
            write()
        assert refusal.value.__cause__.diag.constraint_name == "tenant_memberships_user_is_not_anonymized"
