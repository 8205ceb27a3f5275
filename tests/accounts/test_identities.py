"""Outside identities: whose they are, who signs in as whom, and that the last one stays; also when all come at once."""

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction

from accounts.identities import (
    EmailTakenError,
    IdentityTakenError,
    LastIdentityError,
    MalformedClaimError,
    UserDisabledError,
)
from accounts.models import User, UserIdentity
from tests.clients import CLIENTS, ISOLATION_LEVELS, Clients
from tests.conftest import database_url
from tests.factories import UserFactory, UserIdentityFactory
from tests.rivals import ISOLATIONS, rivals

ISSUER = "https://accounts.example.com"
OTHER_ISSUER = "https://login.example.org"
DISABLED = "This user is disabled and cannot sign in. Ask an operator."
TAKEN = (
    "A user has this e-mail, and the two cannot be told to be one person. "
    "Sign in as before, verify the e-mail, and link the identity there."
)
OTHERS = "This outside identity belongs to another user. Unlink it there first."
LAST = "This is the user's last outside identity. Link another one before it is taken away."


def sign_in(sub="alice", email="alice@example.com", verified=True, issuer=ISSUER) -> tuple[User, bool]:
    return UserIdentity.objects.get_or_create_from_claims(issuer, sub, email, verified)


def run(statement: str, *parameters) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


# Signing in


@pytest.mark.parametrize("verified", [True, False])
def test_the_first_sign_in_makes_a_user_and_the_next_finds_it(db, verified):
    alice, created = sign_in(verified=verified)
    assert (alice.email, created, alice.email_verified_at is not None) == ("alice@example.com", True, verified)
    assert sign_in(verified=verified) == (alice, False)
    assert [(each.user, each.provider, each.provider_sub) for each in UserIdentity.objects.all()] == [
        (alice, ISSUER, "alice")
    ]


def test_a_known_identity_is_its_users_whatever_the_other_claims_say(db):
    alice, _ = sign_in(verified=False)
    UserFactory(email="bob@example.com")
    before = User.objects.values().get(pk=alice.pk)
    for claims in (("bob@example.com", True), (None, None), ("alice@example.com", True)):
        assert sign_in("alice", *claims) == (alice, False)
    assert User.objects.values().get(pk=alice.pk) == before


def test_what_both_sides_have_verified_is_linked(db):
    alice, _ = sign_in()
    assert sign_in("a-2", "ALICE@Example.com", issuer=OTHER_ISSUER) == (alice, False)
    assert alice.identities.count() == 2


@pytest.mark.parametrize(("before", "now"), [(True, False), (False, True), (False, False)])
def test_what_one_side_has_not_verified_is_not_linked(db, before, now):
    """An account under somebody's address waits for that person, or a careless issuer lets the address be claimed."""
    attacked, _ = sign_in(verified=before)
    with pytest.raises(EmailTakenError) as refusal:
        sign_in("a-2", "Alice@example.com", now, OTHER_ISSUER)
    assert str(refusal.value) == TAKEN
    assert list(attacked.identities.values_list("provider_sub", flat=True)) == ["alice"]
    assert User.objects.count() == 1


def test_a_letter_that_only_looks_like_one_in_lower_case_is_no_proof(db):
    """lower() of the Kelvin sign is k in some collations; mail to the two goes to different people."""
    bok, _ = sign_in("bok", "bok@example.com")
    try:
        user, created = sign_in("kelvin", "bo\N{KELVIN SIGN}@example.com")
    except EmailTakenError:
        assert User.objects.get() == bok
    else:
        assert (user == bok, created) == (False, True)
    assert bok.identities.count() == 1


def test_a_changed_email_gets_no_sign_in_before_it_is_verified(db):
    eve, _ = sign_in("eve", "eve@example.com")
    User.objects.filter(pk=eve.pk).update(email="alice@example.com")
    with pytest.raises(EmailTakenError):
        sign_in("alice", "alice@example.com")
    assert eve.identities.count() == 1


@pytest.mark.parametrize("claims", [("alice", ISSUER), ("a-2", OTHER_ISSUER)])
def test_a_disabled_user_does_not_sign_in(db, claims):
    alice, _ = sign_in()
    alice.disable()
    with pytest.raises(UserDisabledError) as refusal:
        sign_in(claims[0], issuer=claims[1])
    assert str(refusal.value) == DISABLED
    assert alice.identities.count() == 1


def test_whoever_was_anonymized_comes_back_as_somebody_new(db):
    alice, _ = sign_in()
    alice.anonymize()
    again, created = sign_in()
    assert (again == alice, created, again.email) == (False, True, "alice@example.com")


HOSTILE = {
    "issuer": [None, "", "https://\0", "i" * 10_000, 7, ["x"], b"x", "\ud800"],
    "sub": [None, "", "al\0ice", "s" * 10_000, "s" * 256, 7, {"a": 1}, b"alice", "\udfff"],
    "email": [
        None, "", "\0@example.com", "a" * 10_000 + "@example.com", 7, ["alice@example.com"], b"alice@example.com",
        "\ud800@example.com", "alice", "a b@example.com", "alice@example.com\n", "x@anonymized.invalid",
    ],
    "email_verified": [None, "", "true", 1, "a\0", ["x"]],
}  # fmt: skip


@pytest.mark.parametrize(("claim", "value"), [(claim, value) for claim, values in HOSTILE.items() for value in values])
def test_a_hostile_claim_is_one_clear_error(db, claim, value):
    claims = {"issuer": ISSUER, "sub": "alice", "email": "alice@example.com", "email_verified": True, claim: value}
    with pytest.raises(MalformedClaimError) as refusal:
        UserIdentity.objects.get_or_create_from_claims(**claims)
    assert str(refusal.value) == (
        f"The claim {claim} is missing or malformed: nobody can be told by it. Ask the issuer for it, and check it."
    )
    assert refusal.value.claim == claim
    assert User.objects.count() == 0  # the transaction goes on


# Linking and unlinking


def test_link_is_done_once(db):
    alice = UserFactory()
    identity = UserIdentity.objects.link(alice, ISSUER, "alice")
    before = UserIdentity.objects.values().get()
    assert UserIdentity.objects.link(alice, ISSUER, "alice") == identity
    assert UserIdentity.objects.values().get() == before


def test_an_identity_of_another_user_is_not_linked(db):
    identity = UserIdentityFactory()
    with pytest.raises(IdentityTakenError) as refusal:
        UserIdentity.objects.link(UserFactory(), identity.provider, identity.provider_sub)
    assert str(refusal.value) == OTHERS
    assert UserIdentity.objects.get().user == identity.user


def test_an_anonymized_user_gets_no_identity(db):
    alice = UserFactory()
    alice.anonymize()
    with pytest.raises(UserDisabledError) as refusal:
        UserIdentity.objects.link(alice, ISSUER, "alice")
    assert str(refusal.value) == DISABLED


@pytest.mark.parametrize(("provider", "sub", "claim"), [("", "a", "issuer"), (ISSUER, "", "sub"), (ISSUER, 7, "sub")])
def test_what_cannot_be_linked(db, provider, sub, claim):
    with pytest.raises(MalformedClaimError) as refusal:
        UserIdentity.objects.link(UserFactory(), provider, sub)
    assert refusal.value.claim == claim


def test_the_last_identity_stays(db):
    first = UserIdentityFactory()
    second = UserIdentityFactory(user=first.user)
    assert second.unlink() is True
    with pytest.raises(LastIdentityError) as refusal:
        first.unlink()
    assert str(refusal.value) == LAST
    assert list(UserIdentity.objects.all()) == [first]


def test_what_is_not_there_or_another_users_is_not_unlinked(db):
    alice, bob = UserIdentityFactory(), UserIdentityFactory()
    assert UserIdentity.objects.unlink(alice.user, bob.provider, bob.provider_sub) is False
    assert UserIdentity.objects.unlink(alice.user, ISSUER, "nobody") is False
    assert UserIdentity.objects.count() == 2


def test_the_async_twins(db):
    """async_to_sync runs what they call in this thread, so that the test's transaction is seen."""

    async def twins() -> None:
        identities = UserIdentity.objects
        alice, created = await identities.aget_or_create_from_claims(ISSUER, "a", "alice@example.com", True)
        assert created
        assert (await identities.alink(alice, ISSUER, "a-2")).user_id == alice.pk
        assert await identities.aunlink(alice, ISSUER, "a-2") is True

    async_to_sync(twins)()


# All at once


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_two_that_unlink_the_last_two_leave_one(server, migrated_database, connected_to, isolation):
    with connected_to(migrated_database):
        for ordered in (lambda pair: pair, reversed):
            one = UserIdentityFactory()
            first, second = ordered([one, UserIdentityFactory(user=one.user)])
            outcomes = rivals(server, isolation, first.unlink, second.unlink)
            assert outcomes[0] is True
            assert str(outcomes[1]) == (LAST if isolation == "READ COMMITTED" else "40001")
            assert list(one.user.identities.all()) == [second]


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # One identity, whose e-mail has changed between two sign-ins: no user is left without an identity.
        (("alice", "alice@example.com"), ("alice", "alice@example.org"), "the first's user"),
        (("alice", "alice@example.com"), ("a-2", "ALICE@example.com"), "the first's user"),
        (("alice", "alice@example.com", False), ("a-2", "alice@example.com"), TAKEN),
        (("alice", "alice@example.com"), ("bob", "bob@example.com"), "another user"),
    ],
)
def test_two_first_sign_ins(server, migrated_database, connected_to, isolation, first, second, expected):
    with connected_to(migrated_database):
        (user, created), answer = rivals(server, isolation, lambda: sign_in(*first), lambda: sign_in(*second))
        assert created
        if expected == "another user":
            assert answer[1] is True
        elif isolation == "REPEATABLE READ":
            assert answer == "40001"
        elif expected == TAKEN:
            assert str(answer) == TAKEN
        else:
            assert answer == (user, False)
        assert User.objects.filter(identities=None).count() == 0
        assert User.objects.count() == (2 if expected == "another user" else 1)


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("change", ["disabled_at = statement_timestamp()", "email = 'eve@example.com'"])
def test_a_user_who_changes_while_a_sign_in_is_about_to_be_linked(
    server, migrated_database, connected_to, isolation, change
):
    with connected_to(migrated_database):
        alice, _ = sign_in()
        _, answer = rivals(
            server, isolation, lambda: run(f"UPDATE users SET {change}"), lambda: sign_in("a-2", issuer=OTHER_ISSUER)
        )
        if isolation == "REPEATABLE READ":
            assert answer == "40001"
        elif change.startswith("disabled"):
            assert str(answer) == DISABLED
        else:
            assert answer[1] is True
        assert list(alice.identities.values_list("provider_sub", flat=True)) == ["alice"]


# Thirty-two browsers of one person: four processes of eight threads.
@pytest.mark.parametrize("isolation", ISOLATION_LEVELS)
@pytest.mark.once
def test_thirty_two_first_sign_ins_of_one_person_make_one_user(server, migrated_database, isolation):
    with (
        Clients(database_url(server, migrated_database), "tests.accounts.races:sign_in", isolation) as together,
        server.connect(migrated_database) as client,
    ):
        for number in range(10):
            sub = f"person-{number}"
            answers = together.at_once([[ISSUER, sub, f"{sub}@example.com"]] * CLIENTS)
            assert len({user for user, _ in answers}) == 1
            assert [created for _, created in answers].count(True) == 1
            counted = client.execute("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM user_identities)")
            assert counted.fetchone() == (number + 1, number + 1)


def test_a_refusal_leaves_the_callers_transaction_usable(db):
    with transaction.atomic():
        alice, _ = sign_in()
        with pytest.raises(LastIdentityError):
            UserIdentity.objects.unlink(alice, ISSUER, "alice")
        assert User.objects.count() == 1
