"""What the clients of test_races.py do."""

from accounts.models import User
from tenancy.groups import GroupError
from tenancy.join_codes import JoinCodeError
from tenancy.memberships import MembershipError
from tenancy.models import Group, Tenant, TenantJoinCode, TenantMembership


def redeem(code: str, user_id: str) -> str:
    try:
        TenantJoinCode.objects.redeem(code, User(id=user_id))
    except JoinCodeError as error:
        return type(error).__name__
    return "admitted"


def redeem_or_revoke(code: str, user_id: str | None) -> str:
    if user_id:
        return redeem(code, user_id)
    TenantJoinCode.objects.filter(code=code).revoke(cascade=True)
    return "revoked"


def leave(membership_id: str) -> str:
    try:
        TenantMembership.objects.get(pk=membership_id).leave()
    except MembershipError as error:
        return type(error).__name__
    return "left"


def end_by_bare_sql(membership_id: str) -> str:
    """A service in another language, which locks nothing beforehand."""
    from django.db import IntegrityError

    try:
        TenantMembership.objects.filter(pk=membership_id).update(role="viewer")
    except IntegrityError as error:
        return error.__cause__.diag.constraint_name
    return "left"


def set_default(tenant_id: str) -> str:
    Tenant.objects.set_default(Tenant.objects.get(pk=tenant_id))
    return "set"


def move(group_id: str, parent_id: str) -> str:
    try:
        Group.objects.get(pk=group_id).move(Group.objects.get(pk=parent_id))
    except GroupError as error:
        return type(error).__name__
    return "moved"


def join_group_or_leave(group_id: str, membership_id: str, leaves: bool) -> str:
    from django.db import IntegrityError

    membership = TenantMembership.objects.get(pk=membership_id)
    if leaves:
        return leave(membership_id)
    try:
        Group.objects.get(pk=group_id).memberships.create(user_id=membership.user_id)
    except IntegrityError as error:
        return error.__cause__.diag.constraint_name
    return "joined"


def anonymize(user_id: str) -> str:
    from accounts.users import ChangeRefusedError

    try:
        User.objects.filter(pk=user_id).anonymize()
    except ChangeRefusedError:
        return "refused"
    return "anonymized"


def leave_or_anonymize(membership_id: str, user_id: str, anonymizes: bool) -> str:
    return anonymize(user_id) if anonymizes else leave(membership_id)


def redeem_or_anonymize(code: str, user_id: str, anonymizes: bool) -> str:
    return anonymize(user_id) if anonymizes else redeem(code, user_id)
