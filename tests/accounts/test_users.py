"""Users: one per e-mail in any case; disabled, enabled and anonymized in one statement each."""

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import Value
from django.db.models.functions import Lower, Now

from accounts.models import User, UserIdentity
from accounts.users import ChangeRefusedError
from audit.models import AuditLog
from tests.factories import AuditLogFactory, UserFactory, UserIdentityFactory
from tests.rivals import ISOLATIONS, rivals

LONG = "a" * 242 + "@example.com"


def run(statement: str, *parameters) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


@pytest.fixture
def alice(db) -> User:
    return UserFactory(email="Alice@Example.com", name="Alice", icon="https://pictures.example/alice")


@pytest.fixture
def bob(db) -> User:
    return UserFactory(email="bob@example.com")


# E-mail addresses


def test_a_user_is_found_by_the_email_in_any_case(alice, bob):
    assert User.objects.get_by_natural_key("aLICE@example.COM") == alice
    with pytest.raises(User.DoesNotExist):
        User.objects.get_by_natural_key("charlie@example.com")


def test_the_index_serves_the_search(alice):
    run("SET LOCAL enable_seqscan = off")
    plan = User.objects.alias(low=Lower("email")).filter(low=Lower(Value("ALICE@example.com"))).explain()
    assert "idx_users_email" in plan


@pytest.mark.parametrize(
    "email",
    ["a@b", "a.b+c@example.co.jp", "o'hara@example.com", "山田@例え.jp", '"quoted"@example.com', "a@[127.0.0.1]", LONG],
)
def test_addresses_that_are_kept(db, email):
    assert len(email) <= 254
    assert UserFactory(email=email).email == email


@pytest.mark.parametrize(
    "email",
    [
        "",
        "@",
        "alice",
        "@example.com",
        "alice@",
        "alice@@example.com",
        "alice@a@example.com",
        "alice@example.com.",
        "alice@.example.com",
        "alice@example..com",
        "al ice@example.com",
        "alice@exam ple.com",
        "alice@example.com\n",
        "\talice@example.com",
        "al\u0007ice@example.com",
        "alice@example.com\u007f",
        "a" + LONG,
    ],
)
def test_what_is_no_address(db, email):
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        UserFactory(email=email)
    assert refusal.value.__cause__.diag.constraint_name == "check_user_email"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"email": "ALICE@example.com"}, "There is already a user with this e-mail."),
        ({"email": "bob"}, "The e-mail is no address, or longer than 254 characters."),
        ({"email": "x@Anonymized.invalid"}, "Addresses at anonymized.invalid are those of anonymized users."),
        ({"name": " "}, "A name is not blank. Leave it empty where there is none."),
        ({"anonymized_at": "2026-01-01T00:00Z"}, "An anonymized user stays disabled."),
    ],
)
def test_the_kind_words_of_each_rule(alice, bob, change, sentence):
    for column, value in change.items():
        setattr(bob, column, value)
    with pytest.raises(ValidationError) as refusal:
        bob.validate_constraints()
    assert refusal.value.messages == [sentence]


def test_a_changed_email_is_not_verified_any_more_whoever_changes_it(alice, bob):
    run("UPDATE users SET email_verified_at = statement_timestamp()")
    run("UPDATE users SET email = 'eve@example.com' WHERE id = %s", alice.pk)
    assert list(User.objects.filter(email_verified_at=None)) == [alice]


def test_a_changed_email_may_be_verified_in_the_same_statement(alice):
    run("UPDATE users SET email = 'alice@example.org', email_verified_at = statement_timestamp()")
    assert User.objects.get().email_verified_at is not None


# Disabling and enabling


def test_disable_and_enable_in_one_statement_each(alice, bob, django_assert_num_queries):
    with django_assert_num_queries(3):  # SAVEPOINT, UPDATE, RELEASE
        assert User.objects.disable() == 2
    assert User.objects.disable() == 0
    assert list(User.objects.active()) == []
    assert User.objects.filter(pk=alice.pk).enable() == 1
    assert User.objects.filter(pk=alice.pk).enable() == 0
    assert list(User.objects.active()) == [alice]


def test_the_time_of_disabling_stays_the_first(alice):
    assert alice.disable() is True
    disabled_at = alice.disabled_at
    assert disabled_at is not None
    assert alice.disable() is False
    assert alice.disabled_at == disabled_at
    assert alice.enable() is True
    assert alice.disabled_at is None
    assert alice.enable() is False


def test_the_async_twins(alice):
    """async_to_sync runs what they call in this thread, so that the test's transaction is seen."""

    async def twins() -> list[int]:
        return [await User.objects.adisable(), await User.objects.aenable(), await User.objects.aanonymize()]

    assert async_to_sync(twins)() == [1, 1, 1]


# Anonymizing


def test_anonymize_leaves_nothing_that_tells_who_it_was_but_the_evidence(alice, bob):
    UserIdentityFactory(user=alice)
    UserIdentityFactory(user=alice)
    kept = UserIdentityFactory(user=bob)
    AuditLogFactory(user_id=alice.pk, actor_label="Alice@Example.com")
    run("UPDATE users SET email_verified_at = statement_timestamp()")
    assert User.objects.filter(pk=alice.pk).anonymize() == 1
    alice.refresh_from_db()
    assert (alice.email, alice.name, alice.icon, alice.email_verified_at) == (
        f"{alice.pk}@anonymized.invalid",
        None,
        None,
        None,
    )
    assert alice.anonymized_at is not None
    assert alice.disabled_at == alice.anonymized_at
    assert list(UserIdentity.objects.all()) == [kept]
    assert list(AuditLog.objects.values_list("user_id", "actor_label")) == [(alice.pk, "Alice@Example.com")]


def test_anonymizing_again_changes_nothing_and_nobody_comes_back(alice):
    alice.disable()
    disabled_at = alice.disabled_at
    assert alice.anonymize() is True
    assert alice.disabled_at == disabled_at
    assert alice.anonymize() is False
    assert alice.enable() is False
    assert alice.disabled_at == disabled_at
    assert User.objects.enable() == 0


def test_identities_go_for_whoever_anonymizes_by_sql(alice):
    UserIdentityFactory(user=alice)
    run("UPDATE users SET disabled_at = statement_timestamp(), anonymized_at = statement_timestamp()")
    assert UserIdentity.objects.count() == 0


@pytest.mark.parametrize("operation", ["disable", "enable", "anonymize"])
def test_a_rule_of_an_app_above_is_told_in_its_own_words(alice, operation):
    if operation == "enable":
        alice.disable()
    run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE check_violation "
        "USING MESSAGE = 'Alice is the last admin of Research.', CONSTRAINT = 'last_admin'; END$$"
    )
    run("CREATE TRIGGER refuse BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION refuse()")
    with pytest.raises(ChangeRefusedError) as refusal:
        getattr(alice, operation)()
    assert str(refusal.value) == "Alice is the last admin of Research."
    assert User.objects.get().name == "Alice"  # the caller's transaction goes on


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("link_is_first", [True, False])
def test_an_identity_linked_meanwhile_does_not_stay(server, migrated_database, connected_to, isolation, link_is_first):
    with connected_to(migrated_database):
        alice = UserFactory()

        def link() -> str:
            return str(UserIdentity.objects.link(alice, "https://accounts.example.com", "alice"))

        def anonymize() -> int:
            return User.objects.filter(pk=alice.pk).anonymize()

        outcomes = rivals(server, isolation, *((link, anonymize) if link_is_first else (anonymize, link)))
        if isolation == "REPEATABLE READ":
            assert outcomes[1] == "40001"
        elif link_is_first:
            assert outcomes == ("https://accounts.example.com:alice", 1)
        else:
            assert (outcomes[0], str(outcomes[1])) == (1, "This user is disabled and cannot sign in. Ask an operator.")
        alice.refresh_from_db()
        assert (alice.anonymized_at is None) == (link_is_first and isolation == "REPEATABLE READ")
        assert alice.identities.exists() == (alice.anonymized_at is None)


def test_a_stale_copy_brings_no_verification_of_an_old_address_back(alice):
    User.objects.filter(pk=alice.pk).update(email_verified_at=Now())
    stale = User.objects.get(pk=alice.pk)
    User.objects.filter(pk=alice.pk).update(email="other@example.com")
    stale.email = "victim@example.com"
    stale.save()
    assert User.objects.get(pk=alice.pk).email_verified_at is None


def test_an_anonymized_user_stays_so_whoever_writes(alice):
    alice.anonymize()
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        User.objects.filter(pk=alice.pk).update(anonymized_at=None, disabled_at=None, email="alice@example.com")
    assert refusal.value.__cause__.diag.constraint_name == "users_stay_anonymized"
