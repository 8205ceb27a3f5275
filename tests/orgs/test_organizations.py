"""Organizations that are suspended and resumed: their sessions end, and none begins while they are not active."""

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from auth_sessions.models import ConsoleSession, Session
from orgs.models import Organization
from orgs.organizations import WrongIsolationError
from tenancy.models import Tenant
from tests.factories import (
    ConsoleSessionFactory,
    OrganizationFactory,
    SessionFactory,
    TenantFactory,
    TenantMembershipFactory,
)
from tests.rivals import ISOLATIONS, rivals

SENTENCE = "An organization is suspended or archived in READ COMMITTED alone."


def membership_in(organization: Organization):
    return TenantMembershipFactory(tenant=TenantFactory(organization_id=organization.pk))


def session_in(organization: Organization) -> Session:
    membership = membership_in(organization)
    return SessionFactory(user=membership.user, active_membership=membership)


@pytest.fixture
def acme(db) -> Organization:
    return OrganizationFactory(name="Acme")


@pytest.fixture
def robots(db) -> Organization:
    return OrganizationFactory(name="Robots")


def refused(constraint: str, write) -> str:
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        write()
    assert refusal.value.__cause__.sqlstate == "23514"
    assert refusal.value.__cause__.diag.constraint_name == constraint
    return refusal.value.__cause__.diag.message_primary


@pytest.mark.parametrize("status", ["suspended", "archived"])
def test_sessions_end_with_the_organization_and_only_they(acme, robots, status):
    ended, others = session_in(acme), session_in(robots)
    ConsoleSessionFactory(organization_id=acme.pk)
    kept = ConsoleSessionFactory(organization_id=robots.pk)
    Organization.objects.filter(pk=acme.pk).update(status=status)
    for session in (ended, others):
        session.refresh_from_db()
    assert ended.active_membership_id is None
    assert others.active_membership_id is not None
    assert Session.objects.filter(revoked=False).count() == 2  # their users are still signed in
    assert list(ConsoleSession.objects.all()) == [kept]


def test_suspend_and_resume_count_what_they_change(acme, robots):
    archived = OrganizationFactory(status="archived")
    assert Organization.objects.filter(pk__in=[acme.pk, robots.pk, archived.pk]).suspend() == 2
    assert Organization.objects.suspend() == 1  # the default one
    assert Organization.objects.filter(pk=acme.pk).resume() == 1
    assert Organization.objects.exclude(pk=acme.pk).resume() == 2
    archived.refresh_from_db()
    assert archived.status == "archived"


def test_one_organization(acme):
    assert (acme.suspend(), acme.status) == (True, "suspended")
    assert (acme.suspend(), acme.status) == (False, "suspended")
    assert (acme.resume(), acme.status) == (True, "active")
    assert (acme.resume(), acme.status) == (False, "active")


def test_suspending_locks_the_tenants_and_is_one_statement(acme, django_assert_num_queries):
    with django_assert_num_queries(4):  # SAVEPOINT, SELECT … FOR NO KEY UPDATE, UPDATE, RELEASE
        Organization.objects.suspend()


def test_the_async_twins(acme):
    """async_to_sync runs what they call in this thread, so that the test's transaction is seen."""

    async def twins() -> list[int]:
        one = Organization.objects.filter(pk=acme.pk)
        return [await one.asuspend(), await one.aresume()]

    assert async_to_sync(twins)() == [1, 1]


@pytest.mark.parametrize("status", ["suspended", "archived"])
def test_no_console_session_begins(acme, robots, status):
    moved = ConsoleSessionFactory(organization_id=robots.pk)
    Organization.objects.filter(pk=acme.pk).update(status=status)
    sentence = f"The organization is {status}: no console session begins before it is resumed."
    rule = "console_sessions_organization_is_active"
    assert refused(rule, lambda: ConsoleSessionFactory(organization_id=acme.pk)) == sentence
    move = ConsoleSession.objects.filter(pk=moved.pk)
    assert refused(rule, lambda: move.update(organization_id=acme.pk)) == sentence
    if status == "suspended":
        acme.resume()
        ConsoleSessionFactory(organization_id=acme.pk)


@pytest.mark.parametrize("status", ["suspended", "archived"])
def test_no_session_comes_into_its_tenants(acme, status):
    membership = membership_in(acme)
    session = SessionFactory(user=membership.user)
    Organization.objects.filter(pk=acme.pk).update(status=status)
    sentence = f"The organization is {status}: no session acts in its tenants before it is resumed."
    rule = "sessions_organization_is_active"
    begin = {"user": membership.user, "active_membership": membership}
    assert refused(rule, lambda: SessionFactory(**begin)) == sentence
    switch = Session.objects.filter(pk=session.pk)
    assert refused(rule, lambda: switch.update(active_membership=membership)) == sentence
    SessionFactory(user=membership.user)  # signing in is not forbidden
    if status == "suspended":
        acme.resume()
        assert switch.update(active_membership=membership) == 1


def test_a_tenant_moved_into_a_suspended_organization_takes_its_sessions_off(acme, robots):
    session = session_in(acme)
    robots.suspend()
    tenant = Tenant.objects.filter(pk=session.active_membership.tenant_id)
    tenant.update(organization_id=robots.pk)
    session.refresh_from_db()
    assert session.active_membership_id is None


def test_a_tenant_moved_between_active_organizations_keeps_its_sessions(acme, robots):
    session = session_in(acme)
    Tenant.objects.filter(pk=session.active_membership.tenant_id).update(organization_id=robots.pk)
    session.refresh_from_db()
    assert session.active_membership_id is not None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"slug": "Acme"}, "A slug is 1 to 63 of a-z, 0-9 and -, with no hyphen at either end."),
        ({"slug": "-acme"}, "A slug is 1 to 63 of a-z, 0-9 and -, with no hyphen at either end."),
        ({"slug": "a" * 64}, "A slug is 1 to 63 of a-z, 0-9 and -, with no hyphen at either end."),
        ({"name": " "}, "A name is not blank."),
    ],
)
def test_the_kind_words_of_each_rule(acme, change, sentence):
    for column, value in change.items():
        setattr(acme, column, value)
    with pytest.raises(ValidationError) as refusal:
        acme.validate_constraints(exclude={"settings"})
    assert refusal.value.messages == [sentence]


# At once


BEGINNINGS = {
    "a session begins": lambda organization, membership, session: SessionFactory(
        user=membership.user, active_membership=membership
    ),
    "a session is switched": lambda organization, membership, session: Session.objects.filter(pk=session.pk).update(
        active_membership=membership
    ),
    "a console session begins": lambda organization, membership, session: ConsoleSessionFactory(
        organization_id=organization.pk
    ),
}


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("suspension_is_first", [True, False])
def test_what_begins_during_a_suspension(
    server, migrated_database, connected_to, isolation, beginning, suspension_is_first
):
    """However they meet: in a suspended organization nothing is alive afterwards.

    REPEATABLE READ is that of the one who begins; a suspension in it is refused, which the next test shows.
    """
    with connected_to(migrated_database):
        organization = OrganizationFactory()
        membership = membership_in(organization)
        session = SessionFactory(user=membership.user)

        def begin():
            return BEGINNINGS[beginning](organization, membership, session) and "begun"

        def suspend() -> int:
            return Organization.objects.filter(pk=organization.pk).suspend()

        if suspension_is_first:
            outcomes = rivals(server, ("READ COMMITTED", isolation), suspend, begin)
            assert outcomes[0] == 1
            assert outcomes[1] == ("40001" if isolation == "REPEATABLE READ" else "23514")
        else:
            assert rivals(server, (isolation, "READ COMMITTED"), begin, suspend) == ("begun", 1)
        organization.refresh_from_db()
        assert organization.status == "suspended"
        assert not ConsoleSession.objects.exists()
        assert not Session.objects.exclude(active_membership=None).exists()


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_suspension_asks_for_read_committed(migrated_database, connected_to, isolation):
    with connected_to(migrated_database):
        organization = OrganizationFactory()
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
            with pytest.raises(WrongIsolationError) as refusal:
                organization.suspend()
            assert str(refusal.value) == SENTENCE
            assert Organization.objects.get(pk=organization.pk).status == "active"  # the transaction goes on


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("move_is_first", [True, False])
def test_a_tenant_that_is_moved_while_a_session_comes(
    server, migrated_database, connected_to, isolation, move_is_first
):
    with connected_to(migrated_database):
        suspended, membership = OrganizationFactory(status="suspended"), membership_in(OrganizationFactory())

        def move() -> int:
            return Tenant.objects.filter(pk=membership.tenant_id).update(organization_id=suspended.pk)

        def begin():
            return SessionFactory(user=membership.user, active_membership=membership) and "begun"

        if move_is_first:
            outcomes = rivals(server, ("READ COMMITTED", isolation), move, begin)
            assert outcomes == (1, "40001" if isolation == "REPEATABLE READ" else "23514")
        else:
            assert rivals(server, (isolation, "READ COMMITTED"), begin, move) == ("begun", 1)
        assert not Session.objects.exclude(active_membership=None).exists()


@pytest.mark.parametrize("move_is_first", [True, False])
def test_a_tenant_that_is_moved_during_a_suspension(server, migrated_database, connected_to, move_is_first):
    with connected_to(migrated_database):
        session, organization = session_in(OrganizationFactory()), OrganizationFactory()
        tenant = Tenant.objects.filter(pk=session.active_membership.tenant_id)

        def move() -> int:
            return tenant.update(organization_id=organization.pk)

        def suspend() -> int:
            return Organization.objects.filter(pk=organization.pk).suspend()

        assert rivals(server, "READ COMMITTED", *((move, suspend) if move_is_first else (suspend, move))) == (1, 1)
        assert not Session.objects.exclude(active_membership=None).exists()
