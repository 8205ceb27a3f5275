"""The life of a session by SessionQuerySet, and what the database refuses to writers who do not use it."""

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connection, transaction
from django.db.models import Value
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from auth_sessions.models import ConsoleSession, Session
from auth_sessions.sessions import (
    ClosedOrganizationError,
    DisabledUserError,
    InvalidSessionError,
    SessionMembershipError,
)
from auth_sessions.tokens import digest, new_token
from tests.factories import SessionFactory, TenantFactory, TenantMembershipFactory, UserFactory

pytestmark = pytest.mark.django_db

NOT_LIVE = "The session does not exist or has ended. Sign in again."
NO_MEMBER = "The user is not an active member of this tenant. Choose another tenant, or join it again."
DISABLED = "No session can be started, because the user is disabled. Ask an operator to enable the user."


@pytest.fixture
def alice():
    return UserFactory(email="alice@example.com")


@pytest.fixture
def bob():
    return UserFactory(email="bob@example.com")


def age(session: Session, **by: float) -> None:
    """Make a session older: the database's clock cannot be moved."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sessions SET created_at = created_at - %(by)s, expires_at = expires_at - %(by)s, "
            "last_accessed_at = last_accessed_at - %(by)s WHERE id = %(id)s",
            {"by": timedelta(**by), "id": session.pk},
        )


def leave(membership) -> None:
    type(membership).objects.filter(pk=membership.pk).update(left_at=Now())


def disable(user) -> None:
    type(user).objects.filter(pk=user.pk).update(disabled_at=Now())


def refused(token) -> str:
    """What is told of a token that is not live, in the same words by each way in which it is looked for."""
    told = set()
    for sessions in (Session.objects.all(), Session.objects.select_related("user")):
        with pytest.raises(InvalidSessionError) as error:
            sessions.authenticate(token)
        told.add(str(error.value))
    (sentence,) = told
    return sentence


# Tokens


def test_a_token_is_of_256_bits_and_its_digest_is_what_postgresql_computes():
    token = new_token()
    assert len(token) == 43
    assert token != new_token()
    with connection.cursor() as cursor:
        cursor.execute("SELECT encode(sha256(convert_to(%s, 'UTF8')), 'hex')", [token])
        assert cursor.fetchone() == (digest(token),)


@pytest.mark.parametrize("text", ["", "\0", "\ud800", "é", "x" * 100_000])
def test_any_text_has_a_digest(text):
    assert len(digest(text)) == 64


# Starting


def test_a_session_begins_with_its_digest_and_the_databases_times(alice):
    session, token = Session.objects.start(alice, ip_address="203.0.113.7", user_agent="Firefox")
    session = Session.objects.get(pk=session.pk)
    assert (session.session_id, session.user, session.ip_address, session.user_agent) == (
        digest(token),
        alice,
        "203.0.113.7",
        "Firefox",
    )
    assert session.expires_at - session.created_at == timedelta(hours=12)
    assert session.last_accessed_at == session.created_at
    assert (session.revoked, session.revoked_at, session.active_membership) == (False, None, None)
    assert Session.objects.authenticate(token) == session


def test_a_lifetime_of_its_own(alice, settings):
    settings.IDENTITY_SESSION_LIFETIME = timedelta(hours=1)
    session, _ = Session.objects.start(alice)
    assert session.expires_at - session.created_at == timedelta(hours=1)
    session, _ = Session.objects.start(alice, lifetime=timedelta(minutes=5))
    assert session.expires_at - session.created_at == timedelta(minutes=5)


@pytest.mark.parametrize(
    ("address", "stored"),
    [
        (None, None),
        ("", None),
        ("unknown, 203.0.113.7, 10.0.0.1", "203.0.113.7"),
        ("203.0.113.7:443", "203.0.113.7"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("1.2.3.4\0", None),
        ("999.1.1.1", None),
        ("\ud800", None),
        ("," * 100_000, None),
    ],
)
def test_any_address_is_taken(alice, address, stored):
    session, _ = Session.objects.start(alice, ip_address=address)
    assert Session.objects.get(pk=session.pk).ip_address == stored


@pytest.mark.parametrize(
    ("agent", "stored"),
    [("a\0b", "a�b"), ("\ud800", "�"), ("x" * 100_000, "x" * 1_000), (["a"], "['a']"), (None, None)],
)
def test_any_user_agent_is_taken(alice, agent, stored):
    session, _ = Session.objects.start(alice, user_agent=agent)
    assert Session.objects.get(pk=session.pk).user_agent == stored


def test_no_session_for_a_disabled_user_and_the_transaction_goes_on(alice):
    disable(alice)
    with pytest.raises(DisabledUserError) as refusal:
        Session.objects.start(alice)
    assert str(refusal.value) == DISABLED
    assert Session.objects.count() == 0


def test_a_session_acts_in_a_membership_of_its_user(alice, bob):
    membership = TenantMembershipFactory(user=alice)
    session, _ = Session.objects.start(alice, membership=membership)
    assert session.active_membership == membership
    with pytest.raises(SessionMembershipError) as refusal:
        Session.objects.start(bob, membership=membership)
    assert str(refusal.value) == NO_MEMBER
    leave(membership)
    with pytest.raises(SessionMembershipError) as refusal:
        Session.objects.start(alice, membership=membership)
    assert str(refusal.value) == NO_MEMBER
    assert Session.objects.count() == 1


def test_starting_is_one_statement(alice, django_assert_num_queries):
    with django_assert_num_queries(3):  # and the savepoint around it
        Session.objects.start(alice)


# Living


def test_what_is_not_live(alice, bob):
    sessions = {}
    for name in ("revoked", "expired", "idle", "disabled", "live"):
        sessions[name] = Session.objects.start(bob if name == "disabled" else alice)
    sessions["revoked"][0].revoke("signed out")
    age(sessions["expired"][0], hours=12)
    Session.objects.filter(pk=sessions["expired"][0].pk).update(last_accessed_at=Now())
    age(sessions["idle"][0], minutes=30)
    disable(bob)
    assert list(Session.objects.live()) == [sessions["live"][0]]
    for name, (_, token) in sessions.items():
        if name != "live":
            assert refused(token) == NOT_LIVE
    assert Session.objects.authenticate(sessions["live"][1])


@pytest.mark.parametrize("token", ["", None, "\0", "\ud800", "x" * 100_000, "nobody's"])
def test_a_token_of_nobody(token):
    assert refused(token) == NOT_LIVE


def test_the_digest_itself_is_no_token(alice):
    session, _ = Session.objects.start(alice)
    assert refused(session.session_id) == NOT_LIVE


def test_an_old_services_session_is_idle_from_its_beginning(alice):
    token = new_token()
    session = SessionFactory(user=alice, session_id=digest(token))
    assert Session.objects.authenticate(token) == session
    Session.objects.filter(pk=session.pk).update(last_accessed_at=None)
    age(session, minutes=31)
    assert refused(token) == NOT_LIVE


def test_an_access_is_noted_once_a_minute_and_the_end_stays(alice, django_assert_num_queries):
    session, token = Session.objects.start(alice)
    with django_assert_num_queries(1):
        Session.objects.authenticate(token)
    age(session, minutes=1)
    before = Session.objects.get(pk=session.pk)
    with django_assert_num_queries(2):
        Session.objects.authenticate(token)
    with django_assert_num_queries(1):
        Session.objects.authenticate(token)
    after = Session.objects.get(pk=session.pk)
    assert after.last_accessed_at >= before.last_accessed_at + timedelta(minutes=1)
    assert after.expires_at == before.expires_at


def test_user_and_membership_come_with_one_select(alice, django_assert_num_queries):
    membership = TenantMembershipFactory(user=alice)
    _, token = Session.objects.start(alice, membership=membership)
    with django_assert_num_queries(1):
        session = Session.objects.select_related("user", "active_membership__tenant").authenticate(token)
        assert (session.user, session.active_membership.tenant) == (alice, membership.tenant)


def test_it_looks_among_the_sessions_of_the_queryset_alone(alice, bob):
    session, token = Session.objects.start(alice)
    assert Session.objects.filter(user=alice).authenticate(token) == session
    with pytest.raises(InvalidSessionError):
        Session.objects.filter(user=bob).authenticate(token)


def test_a_session_is_found_by_the_index_of_its_digest(alice):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = Session.objects.live().filter(session_id=digest("x")).explain()
    assert "idx_sessions_session_id" in plan


# Rotating, switching


@pytest.mark.parametrize("by", ["token", "row"])
def test_a_rotated_session_has_one_token(alice, by):
    session, old = Session.objects.start(alice)
    new = Session.objects.rotate(old if by == "token" else session)
    assert refused(old) == NOT_LIVE
    assert Session.objects.authenticate(new) == session
    if by == "row":
        assert session.session_id == digest(new)
        Session.objects.rotate(session)
        assert refused(new) == NOT_LIVE


def test_what_is_not_live_is_not_rotated(alice):
    session, token = Session.objects.start(alice)
    session.revoke("signed out")
    for what in (session, token, "nobody's"):
        with pytest.raises(InvalidSessionError):
            Session.objects.rotate(what)


@pytest.mark.parametrize("by", ["tenant", "membership"])
def test_a_session_switches_to_another_tenant_of_its_user(alice, by):
    membership = TenantMembershipFactory(user=alice)
    session, _ = Session.objects.start(alice)
    place = membership.tenant if by == "tenant" else membership
    assert Session.objects.switch_tenant(session, place) is session
    assert session.active_membership == membership
    assert Session.objects.get(pk=session.pk).active_membership == membership


def test_it_does_not_switch_to_what_is_not_its_users(alice, bob):
    mine, left, bobs = (TenantMembershipFactory(user=user) for user in (alice, alice, bob))
    leave(left)
    session, _ = Session.objects.start(alice, membership=mine)
    for place in (left, left.tenant, bobs, bobs.tenant, TenantFactory()):
        with pytest.raises(SessionMembershipError) as refusal:
            Session.objects.switch_tenant(session, place)
        assert str(refusal.value) == NO_MEMBER
    session.revoke("signed out")
    with pytest.raises(InvalidSessionError):
        Session.objects.switch_tenant(session, mine)
    assert Session.objects.get(pk=session.pk).active_membership == mine


# Revoking


def test_revoking_says_when_and_why_and_only_once(alice):
    session, _ = Session.objects.start(alice)
    assert session.revoke("signed out") is True
    assert (session.revoked, session.revoked_reason) == (True, "signed out")
    at = session.revoked_at
    assert session.revoke("again") is False
    assert (session.revoked_at, session.revoked_reason) == (at, "signed out")


def test_all_sessions_of_a_user_but_one(alice, bob):
    mine, *others = (Session.objects.start(alice)[0] for _ in range(3))
    bobs, _ = Session.objects.start(bob)
    assert Session.objects.revoke_all(alice, except_session=mine, reason="password changed") == 2
    assert set(Session.objects.live()) == {mine, bobs}
    assert {Session.objects.get(pk=other.pk).revoked_reason for other in others} == {"password changed"}
    assert Session.objects.revoke_all(alice, reason="signed out everywhere") == 1


def test_an_old_service_revokes_by_the_flag_alone(alice):
    session, token = Session.objects.start(alice)
    Session.objects.filter(pk=session.pk).update(revoked=True)
    assert refused(token) == NOT_LIVE


# What the database does for every writer


def test_leaving_takes_the_membership_off_live_sessions_alone(alice):
    membership, other = TenantMembershipFactory(user=alice), TenantMembershipFactory(user=alice)
    live, _ = Session.objects.start(alice, membership=membership)
    elsewhere, _ = Session.objects.start(alice, membership=other)
    revoked, _ = Session.objects.start(alice, membership=membership)
    revoked.revoke("signed out")
    leave(membership)
    places = dict(Session.objects.values_list("pk", "active_membership"))
    assert places == {live.pk: None, elsewhere.pk: other.pk, revoked.pk: membership.pk}


def test_a_revoked_session_stays_revoked_also_by_a_stale_copy(alice):
    session, token = Session.objects.start(alice)
    stale = Session.objects.authenticate(token)
    session.revoke("signed out")
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        stale.save()
    assert refusal.value.__cause__.diag.constraint_name == "sessions_stay_revoked"
    assert refused(token) == NOT_LIVE


def test_a_lifetime_that_is_none(alice):
    for lifetime in (timedelta(0), timedelta(-1), timedelta.max):
        with pytest.raises(ValueError, match=r"^A session lives for more than nothing and 3650 days at most\.$"):
            Session.objects.start(alice, lifetime=lifetime)
        with pytest.raises(ValueError, match=r"^A session lives"):
            ConsoleSession.objects.start("ORG-DEFAULT-001", lifetime=lifetime)


def test_no_session_acts_in_a_suspended_organization(alice):
    membership = TenantMembershipFactory(user=alice)
    session, _ = Session.objects.start(alice)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE organizations SET status = 'suspended'")
    for act in (
        lambda: Session.objects.switch_tenant(session, membership),
        lambda: Session.objects.start(alice, membership=membership),
    ):
        with pytest.raises(ClosedOrganizationError) as refusal:
            act()
        assert str(refusal.value) == (
            "The tenant's organization is not active. Choose a tenant of another one, or ask an operator."
        )
    assert Session.objects.get(pk=session.pk).active_membership_id is None


def test_what_the_caller_asks_of_the_query_is_done(alice):
    _, token = Session.objects.start(alice)
    assert Session.objects.annotate(one=Value(1)).authenticate(token).one == 1
    assert "FOR UPDATE" in str(Session.objects.select_for_update().query)
    with CaptureQueriesContext(connection) as queries:
        Session.objects.select_for_update().authenticate(token)
    assert "FOR UPDATE" in queries[0]["sql"]


def test_anonymizing_forgets_where_the_person_has_been(alice):
    session, _ = Session.objects.start(alice, ip_address="203.0.113.7", user_agent="Alice's telephone")
    alice.anonymize()
    session.refresh_from_db()
    assert (session.ip_address, session.user_agent, session.revoked) == (None, None, True)


def test_the_look_at_the_membership_changes_nothing_of_it(alice):
    membership = TenantMembershipFactory(user=alice)
    before = type(membership).objects.values().get(pk=membership.pk)
    Session.objects.start(alice, membership=membership)
    assert type(membership).objects.values().get(pk=membership.pk) == before


def test_deleting_a_membership_takes_it_off_and_keeps_the_user(alice):
    membership = TenantMembershipFactory(user=alice)
    session, token = Session.objects.start(alice, membership=membership)
    membership.delete()
    session = Session.objects.authenticate(token)
    assert (session.active_membership_id, session.user_id) == (None, alice.pk)


def test_disabling_a_user_revokes_the_sessions(alice, bob):
    session, token = Session.objects.start(alice)
    bobs, _ = Session.objects.start(bob)
    disable(alice)
    session.refresh_from_db()
    assert (session.revoked, session.revoked_reason) == (True, "user_disabled")
    type(alice).objects.filter(pk=alice.pk).update(disabled_at=None)
    assert refused(token) == NOT_LIVE
    assert list(Session.objects.live()) == [bobs]
    assert Session.objects.start(alice)


def test_sql_starts_no_session_of_a_disabled_user(alice):
    disable(alice)
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        SessionFactory(user=alice)
    assert refusal.value.__cause__.diag.constraint_name == "sessions_user_is_enabled"
    assert refusal.value.__cause__.diag.message_primary == (
        f"The user {alice.pk} is disabled: no session can be started. Enable the user first."
    )


# From asynchronous code


def test_each_operation_has_its_asynchronous_twin(alice):
    membership = TenantMembershipFactory(user=alice)

    async def life() -> int:
        sessions = Session.objects
        session, token = await sessions.astart(alice)
        token = await sessions.arotate(token)
        await sessions.aswitch_tenant(session, membership)
        assert (await sessions.aauthenticate(token)).active_membership_id == membership.pk
        assert await session.arevoke("signed out")
        assert await sessions.all().arevoke("again") == 0
        return await sessions.arevoke_all(alice, reason="again")

    assert async_to_sync(life)() == 0
