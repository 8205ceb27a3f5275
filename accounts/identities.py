"""Outside identities: linked to users, taken from them, and the user of a sign-in.

A sign-in gets an account by its e-mail only where two have vouched for the address: the issuer of this sign-in, and
earlier whoever verified it for the account. Otherwise somebody could make an account under another person's address and
wait for that person (pre-hijacking: Sudhodanan and Paverd, USENIX Security 2022), or claim the address at a careless
issuer. What claims mean: OpenID Connect Core 1.0, sections 2 and 5.1.
"""

from asgiref.sync import sync_to_async
from django.db import IntegrityError, connections

from keyhub.statements import StatementQuerySet, one_statement

CHECK_VIOLATION = "23514"
FOREIGN_KEY_VIOLATION = "23503"
# Each failed try means that somebody else has changed the same rows meanwhile.
MOST_TRIES = 20

CLAIM_OF_CHECK = {
    "check_user_identity_provider": "issuer",
    "check_user_identity_provider_sub": "sub",
    "check_user_email": "email",
    "check_user_email_reserved": "email",
}


class IdentityError(Exception):
    """The base of what can go wrong with outside identities."""


class MalformedClaimError(IdentityError):
    """A claim is missing, of another type or form than OpenID Connect has it."""

    def __init__(self, claim: str):
        self.claim = claim
        super().__init__(
            f"The claim {claim} is missing or malformed: nobody can be told by it. Ask the issuer for it, and check it."
        )


class IdentityTakenError(IdentityError):
    """The identity belongs to another user."""

    def __init__(self):
        super().__init__("This outside identity belongs to another user. Unlink it there first.")


class EmailTakenError(IdentityError):
    """A user has the e-mail, and not both sides have verified it."""

    def __init__(self):
        super().__init__(
            "A user has this e-mail, and the two cannot be told to be one person. "
            "Sign in as before, verify the e-mail, and link the identity there."
        )


class UserDisabledError(IdentityError):
    """The user may not sign in, or is anonymized and gets no identity any more."""

    def __init__(self):
        super().__init__("This user is disabled and cannot sign in. Ask an operator.")


class LastIdentityError(IdentityError):
    """Without it the user could not sign in any more."""

    def __init__(self):
        super().__init__("This is the user's last outside identity. Link another one before it is taken away.")


# The real conflict in REPEATABLE READ is ON CONFLICT's own: 40001 where the row in the way is not in the snapshot.
LINK = """
    INSERT INTO user_identities (user_id, provider, provider_sub) VALUES (%(user)s, %(provider)s, %(sub)s)
    ON CONFLICT (provider, provider_sub) DO UPDATE SET provider = EXCLUDED.provider
    RETURNING id, user_id
"""

# All of the user's identities are locked, in one order, before they are counted: of two that take away the last two,
# the second waits, and then counts what is left (READ COMMITTED) or ends in 40001 (REPEATABLE READ).
UNLINK = """
    WITH siblings AS MATERIALIZED (
        SELECT id FROM user_identities WHERE user_id = %(user)s ORDER BY id FOR UPDATE
    ),
    gone AS (
        DELETE FROM user_identities
        WHERE user_id = %(user)s AND provider = %(provider)s AND provider_sub = %(sub)s
          AND (SELECT count(*) FROM siblings) > 1
        RETURNING id
    )
    SELECT (SELECT count(*) FROM gone),
        EXISTS (SELECT FROM user_identities
                WHERE user_id = %(user)s AND provider = %(provider)s AND provider_sub = %(sub)s
                  AND id IN (SELECT id FROM siblings))
"""

# The identity comes before its user, whose key is checked at the statement's end: where the identity is taken meanwhile
# no user is made, and where the e-mail is, the key undoes the identity. In REPEATABLE READ both end in 40001.
# Addresses are one person's where they are equal but for the case of ASCII letters: a mail server may keep K and the
# Kelvin sign apart, and lower() of the e-mail's own collation may not.
FIRST_SIGN_IN = """
    WITH holder AS MATERIALIZED (
        SELECT id, disabled_at IS NOT NULL AS disabled,
            %(verified)s AND email_verified_at IS NOT NULL AND disabled_at IS NULL
                AND lower(email COLLATE "C") = lower(%(email)s COLLATE "C") AS same_person
        FROM users WHERE lower(email) = lower(%(email)s)
        FOR NO KEY UPDATE
    ),
    chosen AS MATERIALIZED (
        SELECT id, false AS is_new FROM holder WHERE same_person
        UNION ALL
        SELECT gen_random_uuid(), true WHERE NOT EXISTS (SELECT FROM holder)
    ),
    linked AS (
        INSERT INTO user_identities (user_id, provider, provider_sub)
        SELECT id, %(issuer)s, %(sub)s FROM chosen
        ON CONFLICT (provider, provider_sub) DO NOTHING
        RETURNING user_id
    ),
    made AS (
        INSERT INTO users (id, email, email_verified_at)
        SELECT id, %(email)s, CASE WHEN %(verified)s THEN statement_timestamp() END
        FROM chosen JOIN linked ON linked.user_id = chosen.id
        WHERE is_new
        ON CONFLICT (lower(email)) DO NOTHING
    )
    SELECT (SELECT user_id FROM linked), (SELECT is_new FROM chosen), (SELECT disabled FROM holder),
        (SELECT same_person FROM holder)
"""


class UserIdentityQuerySet(StatementQuerySet):
    def link(self, user, provider: str, sub: str):
        """Give a user an outside identity, once; return it.

        `provider` is the issuer's identifier (`iss`). Whoever calls this knows that the person has just signed in as
        both. Raises IdentityTakenError where it is another user's, UserDisabledError for an anonymized user, and
        MalformedClaimError.
        """
        keys = {"user": user.pk, "provider": storable("issuer", provider), "sub": storable("sub", sub)}
        row_id, user_id = self._row(LINK, keys)
        if user_id != user.pk:
            raise IdentityTakenError
        return self.using(self.writer).get(pk=row_id)

    def unlink(self, user, provider: str, sub: str) -> bool:
        """Take an identity from a user, but never the last one; return whether the user had it.

        Raises LastIdentityError.
        """
        keys = {"user": user.pk, "provider": storable("issuer", provider), "sub": storable("sub", sub)}
        deleted, was_there = self._row(UNLINK, keys)
        if was_there and not deleted:
            raise LastIdentityError
        return deleted == 1

    def get_or_create_from_claims(self, issuer: str, sub: str, email: str, email_verified: bool) -> tuple:
        """Return (user, created) for a sign-in whose ID token was checked: signature, issuer, audience, nonce, times.

        A known identity is its user's, whatever its other claims say by now. An unknown one whose e-mail nobody has
        makes a user. One whose e-mail a user has is linked to that user where the issuer verified the address now and
        `email_verified_at` says that it was verified for the user before.

        Raises MalformedClaimError, UserDisabledError, EmailTakenError.
        """
        claims = {"issuer": storable("issuer", issuer), "sub": storable("sub", sub)}
        for _ in range(MOST_TRIES):
            if user := self._user_of(**claims):
                return user, False
            if not isinstance(email_verified, bool):
                raise MalformedClaimError("email_verified")
            if answer := self._first_sign_in({**claims, "email": storable("email", email), "verified": email_verified}):
                return answer
        raise IdentityError("Others keep changing the same user or identity. Try again.")

    async def alink(self, user, provider: str, sub: str):
        return await sync_to_async(self.link)(user, provider, sub)

    async def aunlink(self, user, provider: str, sub: str) -> bool:
        return await sync_to_async(self.unlink)(user, provider, sub)

    async def aget_or_create_from_claims(self, issuer: str, sub: str, email: str, email_verified: bool) -> tuple:
        return await sync_to_async(self.get_or_create_from_claims)(issuer, sub, email, email_verified)

    def _user_of(self, issuer: str, sub: str):
        identities = self.model._default_manager.using(self.writer).select_related("user")
        identity = identities.filter(provider=issuer, provider_sub=sub).first()
        if identity is None:
            return None
        if identity.user.disabled_at is not None:
            raise UserDisabledError
        return identity.user

    def _first_sign_in(self, claims: dict) -> tuple | None:
        """The answer, or None where somebody else was faster with the identity or the e-mail."""
        try:
            user_id, created, disabled, same_person = self._row(FIRST_SIGN_IN, claims)
        except IntegrityError as error:
            if error.__cause__.sqlstate == FOREIGN_KEY_VIOLATION:
                return None
            raise
        if disabled:
            raise UserDisabledError
        if same_person is False:
            raise EmailTakenError
        if user_id is None:
            return None
        users = self.model._meta.get_field("user").related_model._default_manager
        return users.using(self.writer).get(pk=user_id), created

    def _row(self, statement: str, parameters: dict) -> tuple:
        using = self.writer
        try:
            with one_statement(using), connections[using].cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetchone()
        except IntegrityError as error:
            constraint = error.__cause__.diag.constraint_name
            if error.__cause__.sqlstate != CHECK_VIOLATION:
                raise
            if constraint == "user_identities_user_is_not_anonymized":
                raise UserDisabledError from error
            if claim := CLAIM_OF_CHECK.get(constraint):
                raise MalformedClaimError(claim) from error
            raise


def storable(claim: str, value: object) -> str:
    """The claim, where PostgreSQL can hold it: text without a NUL or half a surrogate pair.

    Raises MalformedClaimError.
    """
    try:
        if isinstance(value, str) and "\0" not in value and value.encode():
            return value
    except UnicodeEncodeError:
        pass
    raise MalformedClaimError(claim)
