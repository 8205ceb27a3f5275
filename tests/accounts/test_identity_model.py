"""Sign-ins, links and changes in any order, against a model in plain Python: who may end up linked with whom."""

from dataclasses import dataclass, field

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.identities import IdentityError
from accounts.models import User, UserIdentity

ISSUERS = st.sampled_from(["https://accounts.example.com", "https://login.example.org"])
SUBS = st.sampled_from(["alice", "bob", "charlie"])
EMAILS = st.sampled_from(["alice@example.com", "Alice@Example.com", "bob@example.com", "BOB@example.com"])
USERS = st.integers(0, 3)

STEPS = st.one_of(
    st.tuples(st.just("sign_in"), ISSUERS, SUBS, EMAILS, st.booleans()),
    st.tuples(st.just("link"), USERS, ISSUERS, SUBS),
    st.tuples(st.just("unlink"), USERS, ISSUERS, SUBS),
    st.tuples(st.just("verify_email"), USERS),
    st.tuples(st.just("change_email"), USERS, EMAILS),
    st.tuples(st.just("disable"), USERS),
    st.tuples(st.just("enable"), USERS),
    st.tuples(st.just("anonymize"), USERS),
)


@dataclass
class Person:
    email: str
    email_is_verified: bool
    is_disabled: bool = False
    is_anonymized: bool = False


@dataclass
class Model:
    """Users by number, in the order in which they were made, and the user's number of each identity."""

    people: list[Person] = field(default_factory=list)
    owner: dict[tuple[str, str], int] = field(default_factory=dict)

    def holder(self, email: str) -> int | None:
        return next((n for n, person in enumerate(self.people) if person.email.lower() == email.lower()), None)

    def sign_in(self, issuer: str, sub: str, email: str, verified: bool) -> object:
        number = self.owner.get((issuer, sub))
        created = False
        if number is None:
            number = self.holder(email)
            if number is None:
                self.people.append(Person(email, verified))
                number, created = len(self.people) - 1, True
            elif self.people[number].is_disabled:
                return "UserDisabledError"
            elif not (verified and self.people[number].email_is_verified):
                return "EmailTakenError"
        elif self.people[number].is_disabled:
            return "UserDisabledError"
        self.owner[issuer, sub] = number
        return number, created

    def link(self, number: int, issuer: str, sub: str) -> object:
        if self.people[number].is_anonymized:
            return "UserDisabledError"
        if self.owner.setdefault((issuer, sub), number) != number:
            return "IdentityTakenError"
        return number

    def unlink(self, number: int, issuer: str, sub: str) -> object:
        if self.owner.get((issuer, sub)) != number:
            return False
        if list(self.owner.values()).count(number) == 1:
            return "LastIdentityError"
        del self.owner[issuer, sub]
        return True

    def verify_email(self, number: int) -> None:
        self.people[number].email_is_verified = True

    def change_email(self, number: int, email: str) -> None:
        person = self.people[number]
        if self.holder(email) in (None, number) and not person.is_anonymized and person.email != email:
            person.email, person.email_is_verified = email, False

    def disable(self, number: int) -> bool:
        person = self.people[number]
        changed, person.is_disabled = not person.is_disabled, True
        return changed

    def enable(self, number: int) -> bool:
        person = self.people[number]
        if not person.is_disabled or person.is_anonymized:
            return False
        person.is_disabled = False
        return True

    def anonymize(self, number: int) -> bool:
        if self.people[number].is_anonymized:
            return False
        self.people[number] = Person(f"{number}@anonymized.invalid", False, True, True)
        self.owner = {identity: owner for identity, owner in self.owner.items() if owner != number}
        return True


class Database:
    """The same on the tables; users by the number that the model gives them."""

    def __init__(self):
        self.users: list[User] = []

    def sign_in(self, *claims) -> object:
        try:
            user, created = UserIdentity.objects.get_or_create_from_claims(*claims)
        except IdentityError as error:
            return type(error).__name__
        if created:
            self.users.append(user)
        return self.users.index(user), created

    def link(self, number: int, *identity: str) -> object:
        try:
            return self.users.index(UserIdentity.objects.link(self.users[number], *identity).user)
        except IdentityError as error:
            return type(error).__name__

    def unlink(self, number: int, *identity: str) -> object:
        try:
            return UserIdentity.objects.unlink(self.users[number], *identity)
        except IdentityError as error:
            return type(error).__name__

    def verify_email(self, number: int) -> None:
        self._run("UPDATE users SET email_verified_at = statement_timestamp() WHERE id = %s", self.users[number].pk)

    def change_email(self, number: int, email: str) -> None:
        self._run(
            "UPDATE users SET email = %s WHERE id = %s AND anonymized_at IS NULL AND NOT EXISTS "
            "(SELECT FROM users AS other WHERE lower(other.email) = lower(%s) AND other.id <> users.id)",
            email,
            self.users[number].pk,
            email,
        )

    def disable(self, number: int) -> bool:
        return self.users[number].disable()

    def enable(self, number: int) -> bool:
        return self.users[number].enable()

    def anonymize(self, number: int) -> bool:
        return self.users[number].anonymize()

    def owners(self) -> dict[tuple[str, str], int]:
        return {(i.provider, i.provider_sub): self.users.index(i.user) for i in UserIdentity.objects.all()}

    def people(self) -> list[Person]:
        people = []
        for number, user in enumerate(self.users):
            user.refresh_from_db()
            email = user.email.replace(str(user.pk), str(number))
            flags = [user.email_verified_at, user.disabled_at, user.anonymized_at]
            people.append(Person(email, *(flag is not None for flag in flags)))
        return people

    def _run(self, statement: str, *parameters) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)


@pytest.mark.django_db
@settings(
    max_examples=400, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(steps=st.lists(STEPS, max_size=14))
def test_the_tables_end_as_the_model_does(steps):
    model, tables = Model(), Database()
    with transaction.atomic():
        for operation, *arguments in steps:
            if operation != "sign_in" and arguments[0] >= len(model.people):
                continue
            answers = [getattr(side, operation)(*arguments) for side in (model, tables)]
            assert answers[0] == answers[1], (operation, arguments)
        assert tables.owners() == model.owner
        assert tables.people() == model.people
        assert len(tables.users) == User.objects.count()
        transaction.set_rollback(True)
