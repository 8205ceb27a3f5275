"""A small hub in the middle of its day: what the pages of the operators' site are shown with."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from django.contrib.auth.models import Group as PermissionGroup
from django.utils import timezone

from accounts.models import Operator, User
from audit.models import AuditLog
from auth_sessions.models import ConsoleSession, OAuthState, Session
from orgs.models import Organization
from tenancy.models import Group, Tenant, TenantJoinCode, TenantMembership
from tests.factories import (
    GroupFactory,
    GroupMembershipFactory,
    OperatorFactory,
    OrganizationDomainFactory,
    OrganizationFactory,
    TenantFactory,
    TenantMembershipFactory,
    UserFactory,
    UserIdentityFactory,
)

PASSWORD = "correct horse battery staple"


@dataclass
class Scene:
    """Alice is admin of the laboratory, Bob and Dana came by a code, Charlie is nowhere."""

    operator: Operator
    organization: Organization
    laboratory: Tenant
    alice: User
    bob: User
    dana: User
    charlie: User
    leaked: TenantJoinCode
    fresh: TenantJoinCode
    used_up: TenantJoinCode
    optics: Group
    session: Session
    victim: Operator
    permissions: PermissionGroup


def build() -> Scene:
    operator = OperatorFactory(email="olivia@keyhub.test", name="Olivia", is_superuser=True)
    operator.set_password(PASSWORD)
    operator.save()
    organization = OrganizationFactory(id="ORG-ACME", name="Acme Research", slug="acme")
    OrganizationDomainFactory(organization=organization, domain="acme.example")
    laboratory = TenantFactory(
        organization_id=organization.pk, name="Optics Laboratory", slug="optics", tenant_type="laboratory"
    )
    for number, kind in enumerate(["team", "department", "project"], 1):
        TenantFactory(
            organization_id=organization.pk, name=f"Acme {kind} {number}", slug=f"{kind}-{number}", tenant_type=kind
        )
    alice, bob, dana, charlie = (
        UserFactory(email=f"{name.lower()}@example.com", name=name) for name in ("Alice", "Bob", "Dana", "Charlie")
    )
    UserIdentityFactory(user=alice)
    TenantMembershipFactory(tenant=laboratory, user=alice, role="admin")
    issue = TenantJoinCode.objects.issue
    leaked = issue(tenant=laboratory, max_uses=10, created_by=alice)
    fresh = issue(tenant=laboratory, max_uses=0, expires_in=timedelta(days=90), role="viewer", created_by=alice)
    used_up = issue(tenant=laboratory)
    TenantJoinCode.objects.redeem(leaked.code, bob)
    TenantJoinCode.objects.redeem(used_up.code, dana)
    optics = GroupFactory(tenant=laboratory, name="Optics")
    lasers = GroupFactory(tenant=laboratory, name="Lasers", parent_group=optics)
    GroupFactory(tenant=laboratory, name="Pulsed lasers", parent_group=lasers, description="Femtoseconds and below")
    GroupMembershipFactory(group=optics, user=bob)
    place = TenantMembership.objects.get(tenant=laboratory, user=alice)
    session, _token = Session.objects.start(alice, membership=place, ip_address="203.0.113.7", user_agent="Firefox")
    Session.objects.start(bob, ip_address="203.0.113.8", user_agent="Safari")
    OAuthState.objects.begin("https://accounts.example.com", redirect_uri="/home")
    ConsoleSession.objects.start(organization.pk)
    AuditLog.objects.ingest(_days(organization, laboratory, [alice, bob, dana]))
    return Scene(
        operator=operator, organization=organization, laboratory=laboratory, alice=alice, bob=bob, dana=dana,
        charlie=charlie, leaked=leaked, fresh=fresh, used_up=used_up, optics=optics, session=session,
        victim=OperatorFactory(email="victor@keyhub.test", name="Victor"),
        permissions=PermissionGroup.objects.create(name="Night shift"),
    )  # fmt: skip


def _days(organization: Organization, laboratory: Tenant, users: list[User]):
    """Two weeks of sign-ins and of what came after them; weekends are quieter."""
    noon = datetime.combine(timezone.now().astimezone(UTC).date(), time(), UTC)
    for ago in range(14):
        day = noon - timedelta(days=ago)
        for number in range(3 if day.weekday() > 4 else 9 - ago % 4):
            user = users[number % len(users)]
            about = {"organization_id": organization.pk, "tenant": laboratory, "user": user}
            moment = day + timedelta(seconds=number)
            yield {
                "action": "user.login",
                "resource_type": "session",
                "resource_id": number,
                "created_at": moment,
                **about,
            }
            if number % 2:
                yield {
                    "action": "document.read", "resource_type": "document", "resource_id": f"D-{number}",
                    "created_at": moment, "outcome": "denied" if number == 3 else "success", **about,
                }  # fmt: skip
