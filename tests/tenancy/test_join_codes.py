"""Issuing, redeeming and revoking join codes."""

import re
import uuid
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tenancy import join_codes
from tenancy.join_codes import (
    AlreadyAMemberError,
    ExhaustedCodeError,
    ExpiredCodeError,
    RefusedUserError,
    RevokedCodeError,
    UnknownCodeError,
)
from tenancy.memberships import LastAdminError
from tenancy.models import Tenant, TenantJoinCode, TenantJoinCodeRedemption, TenantMembership
from tests.factories import TenantFactory, TenantJoinCodeFactory, TenantMembershipFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return TenantFactory()


@pytest.fixture
def bob():
    return UserFactory(email="bob@example.com")


def seconds_left(code: TenantJoinCode) -> float:
    return (code.expires_at - timezone.now()).total_seconds()


# Issuing


def test_a_code_by_default_lets_one_in_within_a_week(tenant):
    code = TenantJoinCode.objects.issue(tenant=tenant)
    assert (code.tenant, code.max_uses, code.used_count, code.role, code.created_by) == (tenant, 1, 0, "member", None)
    assert seconds_left(code) == pytest.approx(7 * 86400, abs=60)
    assert re.fullmatch(r"KH(-[0-9A-HJKMNP-TV-Z]{5}){3}", code.code)


def test_a_code_as_asked_for(tenant, bob):
    code = TenantJoinCode.objects.issue(tenant=tenant, max_uses=0, expires_in=None, role="viewer", created_by=bob)
    assert (code.max_uses, code.expires_at, code.role, code.created_by) == (0, None, "viewer", bob)


def test_a_code_has_at_least_sixty_random_bits_and_no_letter_that_looks_like_a_digit():
    assert len(join_codes.ALPHABET) ** (join_codes.GROUPS * join_codes.GROUP_LENGTH) >= 2**60
    assert not set("OIL") & set(join_codes.ALPHABET)
    assert len(set(join_codes.ALPHABET)) == 32


@pytest.mark.parametrize("wrong", [{"max_uses": -1}, {"expires_in": timedelta(0)}, {"role": "admin"}])
def test_a_code_that_lets_nobody_in_or_makes_admins(tenant, wrong):
    with pytest.raises(ValueError, match=r"A code is used at least once|'admin' is not a valid TenantJoinCode.Role"):
        TenantJoinCode.objects.issue(tenant=tenant, **wrong)
    assert not TenantJoinCode.objects.filter(tenant=tenant).exists()


# Redeeming


@pytest.mark.parametrize(
    "typed",
    [
        "KH-7Q2M0-F9ZD1-C4WTR",
        "kh-7q2m0-f9zd1-c4wtr",
        " KH 7Q2M0 F9ZD1 C4WTR\n",
        "KH7Q2MOF9ZDLC4WTR",
        "kh–7q2mo—f9zdi_c4wtr",
        "ＫＨ－７Ｑ２Ｍ０－Ｆ９ＺＤ１－Ｃ４ＷＴＲ",
        "K\u200bH-7Q2M0-F9ZD1-C4WTR\0",
    ],
)
def test_a_code_in_any_case_and_spacing(tenant, bob, typed):
    code = TenantJoinCodeFactory(tenant=tenant, code="KH-7Q2M0-F9ZD1-C4WTR", role="viewer")
    membership = TenantJoinCode.objects.redeem(typed, bob)
    assert (membership.tenant, membership.user, membership.role, membership.left_at) == (tenant, bob, "viewer", None)
    code.refresh_from_db()
    assert code.used_count == 1
    (redemption,) = TenantJoinCodeRedemption.objects.all()
    assert (redemption.join_code, redemption.membership, redemption.user) == (code, membership, bob)


def refused(error: type, sentence: str, code: str, user) -> None:
    before = list(TenantJoinCode.objects.values_list("id", "used_count"))
    with pytest.raises(error) as refusal:
        TenantJoinCode.objects.redeem(code, user)
    assert type(refusal.value) is error
    assert str(refusal.value) == sentence
    assert list(TenantJoinCode.objects.values_list("id", "used_count")) == before


@pytest.mark.parametrize("typed", ["KH-NONE", "", " - ", "\0", "x" * 100_000, "'; DROP TABLE users; --", "%s"])
def test_no_such_code(tenant, bob, typed):
    TenantJoinCodeFactory(tenant=tenant)
    refused(UnknownCodeError, "No tenant has this code. Look for a typing error.", typed, bob)


def test_an_expired_code(tenant, bob):
    code = TenantJoinCodeFactory(tenant=tenant, expires_at=timezone.now() - timedelta(milliseconds=1))
    refused(ExpiredCodeError, "The code has expired. Ask an admin of the tenant for another one.", code.code, bob)


def test_a_code_that_expires_within_the_transaction(tenant, bob):
    """CURRENT_TIMESTAMP is the transaction's start, by which it would still live."""
    code = TenantJoinCodeFactory(tenant=tenant, expires_at=timezone.now() + timedelta(milliseconds=50))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.1)")
    refused(ExpiredCodeError, "The code has expired. Ask an admin of the tenant for another one.", code.code, bob)


def test_a_code_that_is_used_up(tenant, bob):
    code = TenantJoinCode.objects.issue(tenant=tenant)
    TenantJoinCode.objects.redeem(code.code, UserFactory())
    sentence = "The code has been used as often as it may be. Ask an admin of the tenant for another one."
    refused(ExhaustedCodeError, sentence, code.code, bob)


def test_a_revoked_code(tenant, bob):
    code = TenantJoinCode.objects.issue(tenant=tenant)
    assert code.revoke() == 0
    assert code.revoked_at is not None
    refused(RevokedCodeError, "The code was revoked. Ask an admin of the tenant for another one.", code.code, bob)


def test_a_member_uses_no_code_up(tenant, bob):
    TenantMembershipFactory(tenant=tenant, user=bob, role="admin")
    code = TenantJoinCode.objects.issue(tenant=tenant)
    refused(AlreadyAMemberError, "The user is a member of this tenant already.", code.code, bob)


def test_an_expelled_user_does_not_come_back_by_a_code(tenant, bob):
    TenantMembershipFactory(tenant=tenant, user=bob).remove()
    code = TenantJoinCode.objects.issue(tenant=tenant)
    sentence = "The user was removed from this tenant. An admin can make them a member again."
    refused(RefusedUserError, sentence, code.code, bob)
    TenantMembership.objects.filter(tenant=tenant, user=bob).update(left_at=None)
    refused(AlreadyAMemberError, "The user is a member of this tenant already.", code.code, bob)


def test_a_disabled_user(tenant, bob):
    bob.disabled_at = timezone.now()
    bob.save()
    code = TenantJoinCode.objects.issue(tenant=tenant)
    refused(RefusedUserError, "The user is disabled, or not there any more.", code.code, bob)


def test_coming_back_takes_the_same_row_and_the_role_of_the_code(tenant, bob):
    membership = TenantMembershipFactory(tenant=tenant, user=bob, role="viewer")
    membership.leave()
    code = TenantJoinCode.objects.issue(tenant=tenant)
    again = TenantJoinCode.objects.redeem(code.code, bob)
    assert (again.pk, again.role, again.left_at, again.left_reason) == (membership.pk, "member", None, None)


def test_a_refusal_leaves_the_callers_transaction_usable(tenant, bob):
    with transaction.atomic():
        refused(UnknownCodeError, "No tenant has this code. Look for a typing error.", "KH-NONE", bob)
        code = TenantJoinCode.objects.issue(tenant=tenant)
        assert TenantJoinCode.objects.redeem(code.code, bob).user == bob


def test_redeeming_is_one_statement(tenant, bob, django_assert_num_queries):
    code = TenantJoinCode.objects.issue(tenant=tenant)
    with django_assert_num_queries(3) as captured:  # within a test's transaction, a savepoint around it
        TenantJoinCode.objects.redeem(code.code, bob)
    assert [query["sql"].split()[0] for query in captured] == ["SAVEPOINT", "WITH", "RELEASE"]


def test_async_variants():
    tenant, bob = TenantFactory(), UserFactory()

    async def join():
        code = await TenantJoinCode.objects.aissue(tenant=tenant)
        membership = await TenantJoinCode.objects.aredeem(code.code, bob)
        return membership, await TenantJoinCode.objects.filter(pk=code.pk).arevoke(cascade=True)

    membership, taken = async_to_sync(join)()
    assert (membership.user, taken) == (bob, 1)


# Which codes are redeemable, and their states


def test_states_and_redeemable(tenant):
    past = timezone.now() - timedelta(seconds=1)
    codes = {
        "active": TenantJoinCodeFactory(tenant=tenant),
        "expired": TenantJoinCodeFactory(tenant=tenant, expires_at=past),
        "exhausted": TenantJoinCodeFactory(tenant=tenant, max_uses=1, used_count=1),
        "revoked": TenantJoinCodeFactory(tenant=tenant, revoked_at=past, expires_at=past),
    }
    for state, code in codes.items():
        assert TenantJoinCode.objects.with_state().get(pk=code.pk).state == state
        assert list(TenantJoinCode.objects.filter(tenant=tenant).in_state(state)) == [code]
    assert list(TenantJoinCode.objects.filter(tenant=tenant).redeemable()) == [codes["active"]]


@pytest.mark.parametrize("revoked", [None, -1])
@pytest.mark.parametrize("expires", [None, -1, 1])
@pytest.mark.parametrize(("max_uses", "used_count"), [(0, 0), (0, 5), (1, 0), (1, 1), (2, 1)])
def test_each_code_is_in_the_one_state_that_it_tells(tenant, revoked, expires, max_uses, used_count):
    revoked_at, expires_at = (days and timezone.now() + timedelta(days=days) for days in (revoked, expires))
    code = TenantJoinCodeFactory(
        tenant=tenant, revoked_at=revoked_at, expires_at=expires_at, max_uses=max_uses, used_count=used_count
    )
    codes = TenantJoinCode.objects.filter(pk=code.pk)
    states = [state for state in TenantJoinCode.State if codes.in_state(state).exists()]
    assert states == [codes.with_state().get().state]


# Revoking


def test_what_a_leaked_code_gave_is_taken_back(tenant, bob):
    """The memberships that it gave last, and no others."""
    leaked = TenantJoinCode.objects.issue(tenant=tenant, max_uses=0)
    sound = TenantJoinCode.objects.issue(tenant=tenant, max_uses=0)
    alice = TenantMembershipFactory(tenant=tenant, role="admin")
    given = TenantJoinCode.objects.redeem(leaked.code, bob)
    charlie = UserFactory()
    TenantJoinCode.objects.redeem(leaked.code, charlie).leave()
    came_back = TenantJoinCode.objects.redeem(sound.code, charlie)
    gone = TenantJoinCode.objects.redeem(leaked.code, UserFactory())
    gone.leave()
    assert leaked.revoke(cascade=True) == 1
    assert set(TenantMembership.objects.active().filter(tenant=tenant)) == {alice, came_back}
    given.refresh_from_db()
    gone.refresh_from_db()
    assert (given.left_reason, gone.left_reason) == ("code_revoked", "left")
    assert leaked.revoke(cascade=True) == 0
    # They are not expelled: another code lets them in.
    assert TenantJoinCode.objects.redeem(sound.code, bob).pk == given.pk


def test_revoking_alone_takes_nothing_back(tenant, bob):
    code = TenantJoinCode.objects.issue(tenant=tenant)
    membership = TenantJoinCode.objects.redeem(code.code, bob)
    assert code.revoke() == 0
    membership.refresh_from_db()
    assert membership.left_at is None
    revoked_at = code.revoked_at
    assert code.revoke(cascade=True) == 1
    assert code.revoked_at == revoked_at


def test_many_at_once(tenant):
    codes = [TenantJoinCode.objects.issue(tenant=tenant) for _ in range(3)]
    for code in codes:
        TenantJoinCode.objects.redeem(code.code, UserFactory())
    assert TenantJoinCode.objects.filter(tenant=tenant).revoke(cascade=True) == 3
    assert not TenantJoinCode.objects.filter(tenant=tenant).redeemable().exists()


def test_a_code_that_gave_the_only_admin_is_not_taken_back_by_half(tenant, bob):
    code = TenantJoinCode.objects.issue(tenant=tenant, max_uses=0)
    TenantJoinCode.objects.redeem(code.code, UserFactory())
    TenantJoinCode.objects.redeem(code.code, bob).change_role("admin")
    with pytest.raises(LastAdminError) as refusal:
        code.revoke(cascade=True)
    assert str(refusal.value) == (
        f"tenant {tenant.pk} would be left without an admin. Make somebody else an admin first, or delete the tenant."
    )
    code.refresh_from_db()
    assert code.revoked_at is None
    assert TenantMembership.objects.active().filter(tenant=tenant).count() == 2


def test_a_redemption_speaks_of_the_users_own_membership(tenant, bob):
    code = TenantJoinCode.objects.issue(tenant=tenant)
    membership = TenantJoinCode.objects.redeem(code.code, bob)
    redemption = TenantJoinCodeRedemption.objects.get()
    with (
        pytest.raises(IntegrityError, match="tenant_join_code_redemptions_membership_id_user_id_fkey"),
        transaction.atomic(),
    ):
        TenantJoinCodeRedemption.objects.filter(pk=redemption.pk).update(user=UserFactory())
    TenantMembership.objects.filter(pk=membership.pk).delete()
    assert not TenantJoinCodeRedemption.objects.exists()


# The whole life of codes and memberships, beside a plain model of it


class Lives(RuleBasedStateMachine):
    """One tenant, four people, codes that come and go; `members` and `expelled` are what must be so."""

    def __init__(self):
        super().__init__()
        self.tenant = TenantFactory()
        self.people = UserFactory.create_batch(4)
        self.codes = {}  # row -> [uses left or None, role, state]
        self.members = {}  # user -> [role, code that gave it]
        self.expelled = set()

    def _row(self, user) -> TenantMembership:
        return TenantMembership.objects.get(tenant=self.tenant, user=user)

    @rule(max_uses=st.integers(0, 3), role=st.sampled_from(["member", "viewer"]))
    def issue(self, max_uses, role):
        code = TenantJoinCode.objects.issue(tenant=self.tenant, max_uses=max_uses, role=role)
        self.codes[code] = [max_uses or None, role, "active"]

    @precondition(lambda self: self.codes)
    @rule(data=st.data(), person=st.integers(0, 3))
    def redeem(self, data, person):
        user = self.people[person]
        code = data.draw(st.sampled_from(list(self.codes)))
        left, role, state = self.codes[code]
        expected = None
        if user in self.members:
            expected = AlreadyAMemberError
        elif user in self.expelled:
            expected = RefusedUserError
        elif state != "active":
            expected = {"revoked": RevokedCodeError, "expired": ExpiredCodeError}[state]
        elif left == 0:
            expected = ExhaustedCodeError
        if expected:
            with pytest.raises(expected):
                TenantJoinCode.objects.redeem(code.code.lower(), user)
            return
        TenantJoinCode.objects.redeem(code.code.lower(), user)
        self.codes[code][0] = left and left - 1
        self.members[user] = [role, code]

    @precondition(lambda self: self.codes)
    @rule(data=st.data(), how=st.sampled_from(["expire", "revoke", "take back"]))
    def end_code(self, data, how):
        code = data.draw(st.sampled_from(list(self.codes)))
        given = [user for user, (_, by) in self.members.items() if by == code]
        if how == "expire":
            TenantJoinCode.objects.filter(pk=code.pk).update(expires_at=timezone.now())
            self.codes[code][2] = "expired" if self.codes[code][2] == "active" else self.codes[code][2]
            return
        if how == "take back":
            admins = {user for user, (role, _) in self.members.items() if role == "admin"}
            if admins and admins <= set(given):
                with pytest.raises(LastAdminError):
                    code.revoke(cascade=True)
                return
            assert code.revoke(cascade=True) == len(given)
            for user in given:
                del self.members[user]
        else:
            assert code.revoke() == 0
        self.codes[code][2] = "revoked"

    @precondition(lambda self: self.members)
    @rule(data=st.data(), how=st.sampled_from(["leave", "remove", "admin", "member"]))
    def change_member(self, data, how):
        user = data.draw(st.sampled_from([user for user in self.people if user in self.members]))
        admins = [user for user, (role, _) in self.members.items() if role == "admin"]
        row = self._row(user)
        if admins == [user] and how != "admin":
            with pytest.raises(LastAdminError):
                row.change_role(how) if how == "member" else getattr(row, how)()
        elif how in ("admin", "member"):
            row.change_role(how)
            self.members[user][0] = how
        else:
            getattr(row, how)()
            del self.members[user]
            if how == "remove":
                self.expelled.add(user)

    @invariant()
    def the_tables_say_the_same(self):
        rows = TenantMembership.objects.filter(tenant=self.tenant)
        assert {row.user: row.role for row in rows if row.left_at is None} == {
            user: role for user, (role, _) in self.members.items()
        }
        assert {row.user for row in rows if row.left_reason == "removed"} == self.expelled - set(self.members)
        redeemable = {code for code, (left, _, state) in self.codes.items() if left != 0 and state == "active"}
        assert set(TenantJoinCode.objects.filter(tenant=self.tenant).redeemable()) == redeemable


def test_the_life_of_codes_and_memberships():
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_hostile_texts_of_codes(tenant):
    for text in ("\ud800", "\0", "", None, "x" * 1_000_000):
        with pytest.raises(UnknownCodeError):
            TenantJoinCode.objects.redeem(text, UserFactory())


@pytest.mark.parametrize("options", [{"max_uses": 2**31}, {"expires_in": timedelta.max}])
def test_a_code_beyond_what_the_database_holds(tenant, options):
    with pytest.raises(ValueError, match=r"^No code has such a limit or time"):
        TenantJoinCode.objects.issue(tenant=tenant, **options)
    assert not TenantJoinCode.objects.filter(tenant=tenant).exists()  # the transaction goes on


def test_a_code_of_a_tenant_that_is_gone():
    with pytest.raises(ValueError, match=r"^The tenant, or who issues the code, does not exist any more\.$"):
        TenantJoinCode.objects.issue(tenant=Tenant(id=uuid.uuid4()))


def test_what_an_admin_gives_again_is_no_codes(tenant):
    bob, code = UserFactory(), TenantJoinCode.objects.issue(tenant=tenant)
    membership = TenantJoinCode.objects.redeem(code.code, bob)
    membership.remove()
    TenantMembership.objects.filter(pk=membership.pk).update(left_at=None)
    assert code.revoke(cascade=True) == 0
    assert TenantMembership.objects.get(pk=membership.pk).left_at is None


def test_the_code_that_a_user_came_back_by_is_the_one_that_counts(tenant):
    bob = UserFactory()
    first, second = (TenantJoinCode.objects.issue(tenant=tenant) for _ in range(2))
    TenantJoinCode.objects.redeem(first.code, bob).leave()
    TenantJoinCode.objects.redeem(second.code, bob)
    assert first.revoke(cascade=True) == 0
    assert second.revoke(cascade=True) == 1
