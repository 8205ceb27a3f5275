"""Any order of what can happen to sessions, held against a plain model of what must be true then.

The database's clock cannot be moved, so all sessions grow older instead.
"""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from accounts.models import User
from auth_sessions.models import Session
from auth_sessions.sessions import DisabledUserError, InvalidSessionError, SessionMembershipError
from tenancy.models import TenantMembership
from tests.factories import TenantFactory, UserFactory

PEOPLE, TENANTS = ("alice", "bob"), ("research", "sales")
LIFETIME_MINUTES, IDLE_MINUTES = 12 * 60, 30


@dataclass
class Expected:
    """What the model knows of a session."""

    person: str
    tenant: str | None
    token: str
    began: int
    seen: int
    revoked: bool = False
    old_tokens: list[str] = field(default_factory=list)


class Life(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.rollback = transaction.atomic()
        self.rollback.__enter__()
        self.minute = 0
        self.disabled: set[str] = set()
        self.members: set[tuple[str, str]] = set()
        self.sessions: dict[object, Expected] = {}
        self.users = {person: UserFactory(email=f"{person}@example.com") for person in PEOPLE}
        self.tenants = {tenant: TenantFactory(slug=tenant) for tenant in TENANTS}

    def teardown(self):
        if hasattr(self, "rollback"):
            transaction.set_rollback(True)
            self.rollback.__exit__(None, None, None)

    # The model

    def is_live(self, session: Expected) -> bool:
        return (
            not session.revoked
            and session.person not in self.disabled
            and self.minute < session.began + LIFETIME_MINUTES
            and self.minute < session.seen + IDLE_MINUTES
        )

    def one(self, number: int):
        """One of the sessions, by any number."""
        return list(self.sessions.items())[number % len(self.sessions)]

    has_sessions = precondition(lambda self: self.sessions)

    # What can happen

    @rule(person=st.sampled_from(PEOPLE), tenant=st.sampled_from(TENANTS))
    def join(self, person, tenant):
        TenantMembership.objects.update_or_create(
            user=self.users[person], tenant=self.tenants[tenant], defaults={"left_at": None}
        )
        self.members.add((person, tenant))

    @rule(person=st.sampled_from(PEOPLE), tenant=st.sampled_from(TENANTS))
    def leave(self, person, tenant):
        TenantMembership.objects.filter(user=self.users[person], tenant=self.tenants[tenant]).update(left_at=Now())
        self.members.discard((person, tenant))
        for session in self.sessions.values():
            if (session.person, session.tenant) == (person, tenant) and not session.revoked:
                session.tenant = None

    @rule(person=st.sampled_from(PEOPLE), tenant=st.sampled_from((None, *TENANTS)))
    def start(self, person, tenant):
        membership = None
        if tenant:
            membership = TenantMembership.objects.filter(user=self.users[person], tenant=self.tenants[tenant]).first()
            tenant = membership and tenant
        try:
            session, token = Session.objects.start(self.users[person], membership=membership)
        except DisabledUserError:
            assert person in self.disabled
        except SessionMembershipError:
            assert (person, tenant) not in self.members
        else:
            assert person not in self.disabled
            assert tenant is None or (person, tenant) in self.members
            self.sessions[session.pk] = Expected(person, tenant, token, self.minute, self.minute)

    @has_sessions
    @rule(number=st.integers(0, 20))
    def authenticate(self, number):
        key, session = self.one(number)
        if self.is_live(session):
            assert Session.objects.authenticate(session.token).pk == key
            session.seen = self.minute
        else:
            with pytest.raises(InvalidSessionError):
                Session.objects.authenticate(session.token)
        for token in session.old_tokens:
            with pytest.raises(InvalidSessionError):
                Session.objects.authenticate(token)

    @has_sessions
    @rule(number=st.integers(0, 20))
    def rotate(self, number):
        _, session = self.one(number)
        try:
            token = Session.objects.rotate(session.token)
        except InvalidSessionError:
            assert not self.is_live(session)
        else:
            assert self.is_live(session)
            session.old_tokens.append(session.token)
            session.token, session.seen = token, self.minute

    @has_sessions
    @rule(number=st.integers(0, 20), tenant=st.sampled_from(TENANTS))
    def switch(self, number, tenant):
        key, session = self.one(number)
        try:
            Session.objects.switch_tenant(Session.objects.get(pk=key), self.tenants[tenant])
        except InvalidSessionError:
            assert not self.is_live(session)
        except SessionMembershipError:
            assert self.is_live(session)
            assert (session.person, tenant) not in self.members
        else:
            assert self.is_live(session)
            assert (session.person, tenant) in self.members
            session.tenant = tenant

    @has_sessions
    @rule(number=st.integers(0, 20))
    def revoke(self, number):
        key, session = self.one(number)
        assert Session.objects.get(pk=key).revoke("signed out") is not session.revoked
        session.revoked = True

    @has_sessions
    @rule(number=st.integers(0, 20))
    def revoke_all_others(self, number):
        key, kept = self.one(number)
        others = [
            session
            for other, session in self.sessions.items()
            if session.person == kept.person and other != key and not session.revoked
        ]
        count = Session.objects.revoke_all(
            self.users[kept.person], except_session=Session.objects.get(pk=key), reason="elsewhere"
        )
        assert count == len(others)
        for session in others:
            session.revoked = True

    @rule(person=st.sampled_from(PEOPLE))
    def disable(self, person):
        User.objects.filter(pk=self.users[person].pk, disabled_at=None).update(disabled_at=Now())
        self.disabled.add(person)
        for session in self.sessions.values():
            session.revoked = session.revoked or session.person == person

    @rule(person=st.sampled_from(PEOPLE))
    def enable(self, person):
        User.objects.filter(pk=self.users[person].pk).update(disabled_at=None)
        self.disabled.discard(person)

    @rule(minutes=st.sampled_from((1, 7, 29, 30, 11 * 60)))
    def time_passes(self, minutes):
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE sessions SET created_at = created_at - %(by)s, expires_at = expires_at - %(by)s, "
                "last_accessed_at = last_accessed_at - %(by)s, revoked_at = revoked_at - %(by)s",
                {"by": timedelta(minutes=minutes)},
            )
        self.minute += minutes

    # What is always true

    @invariant()
    def live_sessions_are_those_of_the_model(self):
        live = set(Session.objects.live().values_list("pk", flat=True))
        assert live == {key for key, session in self.sessions.items() if self.is_live(session)}

    @invariant()
    def sessions_act_where_the_model_says(self):
        places = dict(Session.objects.values_list("pk", "active_membership__tenant__slug"))
        assert places == {key: session.tenant for key, session in self.sessions.items()}


@pytest.mark.django_db
def test_any_order_of_events():
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
