"""A row of each table, with no more than the table asks for."""

from datetime import date, timedelta

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from accounts.models import Operator, User, UserIdentity
from audit.models import AuditArchive, AuditLog, AuditSeal
from auth_sessions.models import ConsoleSession, OAuthState, Session
from auth_sessions.tokens import digest
from orgs.models import Organization, OrganizationDomain
from tenancy.models import (
    DEFAULT_ORGANIZATION_ID,
    Group,
    GroupMembership,
    Tenant,
    TenantJoinCode,
    TenantJoinCodeRedemption,
    TenantMembership,
)


def _in_an_hour(_) -> object:
    return timezone.now() + timedelta(hours=1)


class OperatorFactory(DjangoModelFactory):
    class Meta:
        model = Operator

    email = factory.Sequence(lambda n: f"operator{n}@keyhub.test")


class UserFactory(DjangoModelFactory):
    class Meta:
        model = User

    email = factory.Sequence(lambda n: f"person{n}@example.com")


class UserIdentityFactory(DjangoModelFactory):
    class Meta:
        model = UserIdentity

    user = factory.SubFactory(UserFactory)
    provider = "https://accounts.example.com"
    provider_sub = factory.Sequence(lambda n: f"sub-{n}")


class OrganizationFactory(DjangoModelFactory):
    class Meta:
        model = Organization

    id = factory.Sequence(lambda n: f"ORG-{n:03}")
    name = factory.LazyAttribute(lambda organization: f"Organization {organization.id}")
    slug = factory.LazyAttribute(lambda organization: organization.id.lower())


class OrganizationDomainFactory(DjangoModelFactory):
    class Meta:
        model = OrganizationDomain

    organization = factory.SubFactory(OrganizationFactory)
    domain = factory.Sequence(lambda n: f"company{n}.example")


class TenantFactory(DjangoModelFactory):
    class Meta:
        model = Tenant

    name = factory.Sequence(lambda n: f"Team {n}")
    slug = factory.Sequence(lambda n: f"team-{n}")


class TenantMembershipFactory(DjangoModelFactory):
    class Meta:
        model = TenantMembership

    tenant = factory.SubFactory(TenantFactory)
    user = factory.SubFactory(UserFactory)


class TenantJoinCodeFactory(DjangoModelFactory):
    class Meta:
        model = TenantJoinCode

    tenant = factory.SubFactory(TenantFactory)
    code = factory.Sequence(lambda n: f"KH-CODE-{n:03}")


class TenantJoinCodeRedemptionFactory(DjangoModelFactory):
    class Meta:
        model = TenantJoinCodeRedemption

    join_code = factory.SubFactory(TenantJoinCodeFactory)
    membership = factory.SubFactory(TenantMembershipFactory, tenant=factory.SelfAttribute("..join_code.tenant"))
    user = factory.SelfAttribute("membership.user")


class GroupFactory(DjangoModelFactory):
    class Meta:
        model = Group

    tenant = factory.SubFactory(TenantFactory)
    name = factory.Sequence(lambda n: f"Group {n}")


class GroupMembershipFactory(DjangoModelFactory):
    class Meta:
        model = GroupMembership

    group = factory.SubFactory(GroupFactory)
    user = factory.SubFactory(UserFactory)

    @classmethod
    def _create(cls, model_class, *args, **kwargs):
        """A member of a group is one of its tenant."""
        tenant, user = kwargs["group"].tenant, kwargs["user"]
        if not TenantMembership.objects.filter(tenant=tenant, user=user).exists():
            TenantMembershipFactory(tenant=tenant, user=user)
        return super()._create(model_class, *args, tenant_id=tenant.pk, **kwargs)


class SessionFactory(DjangoModelFactory):
    class Meta:
        model = Session

    session_id = factory.Sequence(lambda n: digest(f"session-{n}"))
    user = factory.SubFactory(UserFactory)
    expires_at = factory.LazyAttribute(_in_an_hour)


class OAuthStateFactory(DjangoModelFactory):
    class Meta:
        model = OAuthState

    state = factory.Sequence(lambda n: digest(f"state-{n}"))
    code_verifier = factory.Faker("sha256")
    nonce = factory.Faker("sha1")


class ConsoleSessionFactory(DjangoModelFactory):
    class Meta:
        model = ConsoleSession

    session_id = factory.Sequence(lambda n: digest(f"console-session-{n}"))
    organization_id = DEFAULT_ORGANIZATION_ID
    expires_at = factory.LazyAttribute(_in_an_hour)


class AuditSealFactory(DjangoModelFactory):
    class Meta:
        model = AuditSeal

    number = factory.Sequence(lambda n: n + 1)
    month = factory.Sequence(lambda n: date(2000 + n // 12, n % 12 + 1, 1))
    rows = 0
    digest = previous = names_digest = "0" * 64
    signature = names_signature = ""


class AuditArchiveFactory(DjangoModelFactory):
    class Meta:
        model = AuditArchive

    month = factory.LazyFunction(lambda: AuditSealFactory().month)
    folder = factory.LazyAttribute(lambda archive: f"keyhub/{archive.month}")
    names_file = "names.parquet"
    rows_bytes = names_bytes = 1
    rows_sha256 = names_sha256 = "0" * 64


class AuditLogFactory(DjangoModelFactory):
    class Meta:
        model = AuditLog

    organization_id = DEFAULT_ORGANIZATION_ID
    action = "user.login"
    resource_type = "session"
