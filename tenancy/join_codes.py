"""Operations on join codes: issuing, redeeming and revoking them."""

import secrets
from datetime import timedelta

from asgiref.sync import sync_to_async
from django.db import DataError, IntegrityError, models
from django.db.models import Case, F, Func, Q, Value, When
from django.db.models.functions import Now

from keyhub.client_input import REPLACEMENT, storable_text
from keyhub.statements import StatementQuerySet, one_statement
from tenancy.memberships import last_admin_refused

# Crockford's base 32: no I, L and O, which look like digits, and no U. https://www.crockford.com/base32.html
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
GROUPS, GROUP_LENGTH = 3, 5  # 75 random bits; OWASP ASVS 5.0 11.5.1 asks for more only of what nobody reads out
NOT_NULL_VIOLATION = "23502"
FOREIGN_KEY_VIOLATION = "23503"
TRIES = 3  # each failed one means that the membership or the code has just changed

ISSUE = """
    INSERT INTO tenant_join_codes (tenant_id, code, expires_at, max_uses, role, created_by)
    VALUES (%(tenant)s, %(code)s, statement_timestamp() + %(expires_in)s, %(max_uses)s, %(role)s, %(created_by)s)
    RETURNING *
"""
# The WHERE of the code admits; its row stays locked until the commit, so a limit holds in every isolation level. Where
# the user has become a member meanwhile, there is no membership for the redemption, and NOT NULL undoes the statement.
REDEEM = """
    WITH person AS MATERIALIZED (
        SELECT FROM users WHERE id = %(user)s AND disabled_at IS NULL FOR NO KEY UPDATE
    ), code AS (
        UPDATE tenant_join_codes SET used_count = used_count + 1
        WHERE normalize_join_code(code) = normalize_join_code(%(code)s)
            AND revoked_at IS NULL
            AND (expires_at IS NULL OR expires_at > statement_timestamp())
            AND (max_uses = 0 OR used_count < max_uses)
            AND EXISTS (SELECT FROM person)
            AND NOT EXISTS (
                SELECT FROM tenant_memberships AS own
                WHERE own.tenant_id = tenant_join_codes.tenant_id AND own.user_id = %(user)s
                    AND (own.left_at IS NULL OR own.left_reason = 'removed')
            )
        RETURNING id, tenant_id, role
    ), membership AS (
        INSERT INTO tenant_memberships AS own (tenant_id, user_id, role)
        SELECT tenant_id, %(user)s, role FROM code
        ON CONFLICT (tenant_id, user_id) DO UPDATE SET left_at = NULL, role = EXCLUDED.role
        WHERE own.left_at IS NOT NULL AND own.left_reason IS DISTINCT FROM 'removed'
        RETURNING own.*
    ), redemption AS (
        INSERT INTO tenant_join_code_redemptions (join_code_id, membership_id, user_id)
        SELECT id, (SELECT id FROM membership), %(user)s FROM code
    )
    SELECT * FROM membership
"""


class JoinCodeError(Exception):
    """A join code lets a user not in. Whoever typed it need not be told which of the reasons it was."""


class UnknownCodeError(JoinCodeError):
    """No tenant has such a code."""


class RevokedCodeError(JoinCodeError):
    """The code was revoked."""


class ExpiredCodeError(JoinCodeError):
    """The code's time is over."""


class ExhaustedCodeError(JoinCodeError):
    """The code has been used as often as it may be."""


class AlreadyAMemberError(JoinCodeError):
    """The user is in the tenant already; the code is not used up by trying."""


class RefusedUserError(JoinCodeError):
    """The user was removed from the tenant, or is disabled."""


# By the state of a code: TenantJoinCode.State.
REFUSALS = {
    "revoked": (RevokedCodeError, "The code was revoked."),
    "expired": (ExpiredCodeError, "The code has expired."),
    "exhausted": (ExhaustedCodeError, "The code has been used as often as it may be."),
}


def new_code() -> str:
    """A random code, such as KH-7Q2MX-0F9ZD-C4WTR."""
    groups = ("".join(secrets.choice(ALPHABET) for _ in range(GROUP_LENGTH)) for _ in range(GROUPS))
    return "-".join(["KH", *groups])


class TenantJoinCodeQuerySet(StatementQuerySet):
    def with_state(self) -> "TenantJoinCodeQuerySet":
        """Annotate `state`, a value of TenantJoinCode.State, by the database's clock (statement_timestamp())."""
        state = self.model.State
        return self.annotate(
            state=Case(
                When(revoked_at__isnull=False, then=Value(state.REVOKED)),
                When(expires_at__lte=Now(), then=Value(state.EXPIRED)),
                When(max_uses__gt=0, used_count__gte=F("max_uses"), then=Value(state.EXHAUSTED)),
                default=Value(state.ACTIVE),
                output_field=models.TextField(),
            )
        )

    def in_state(self, state: str) -> "TenantJoinCodeQuerySet":
        """Those of one state, as with_state() tells it, by conditions on the columns: the planner knows how many rows
        these take, and nothing of a CASE.
        """
        states = self.model.State
        expired, used_up = Q(expires_at__lte=Now()), Q(max_uses__gt=0, used_count__gte=F("max_uses"))
        lives = Q(expires_at=None) | Q(expires_at__gt=Now())
        if state == states.REVOKED:
            return self.filter(revoked_at__isnull=False)
        if state == states.EXPIRED:
            return self.filter(expired, revoked_at=None)
        return self.filter(lives, used_up, revoked_at=None) if state == states.EXHAUSTED else self.redeemable()

    def redeemable(self) -> "TenantJoinCodeQuerySet":
        """Those that let somebody in: not revoked, not expired, not used up."""
        return self.filter(
            Q(expires_at=None) | Q(expires_at__gt=Now()),
            Q(max_uses=0) | Q(used_count__lt=F("max_uses")),
            revoked_at=None,
        )

    def issue(
        self,
        *,
        tenant: models.Model,
        max_uses: int = 1,
        expires_in: timedelta | None = timedelta(days=7),
        role: str = "member",
        created_by: models.Model | None = None,
    ) -> models.Model:
        """Make a code such as KH-7Q2MX-0F9ZD-C4WTR; `max_uses=0` is no limit, `expires_in=None` no end.

        Raises ValueError for a role that codes do not give, for a limit or time that lets nobody in or is beyond what
        the database holds, and for a tenant or an issuer who does not exist any more.
        """
        if max_uses < 0 or (expires_in is not None and expires_in <= timedelta(0)):
            raise ValueError("A code is used at least once and lives for some time: max_uses >= 0, expires_in > 0.")
        params = {
            "tenant": tenant.pk, "code": new_code(), "expires_in": expires_in, "max_uses": max_uses,
            "role": self.model.Role(role), "created_by": created_by and created_by.pk,
        }  # fmt: skip
        try:
            with one_statement(self.writer):
                (code,) = self.statement(ISSUE, params)
        except DataError as error:
            raise ValueError("No code has such a limit or time: the database holds 2147483647 uses at most.") from error
        except IntegrityError as error:
            if error.__cause__.sqlstate != FOREIGN_KEY_VIOLATION:
                raise
            raise ValueError("The tenant, or who issues the code, does not exist any more.") from error
        return code

    def redeem(self, code: str, user: models.Model) -> models.Model:
        """Make a user a member by a code, in any case and spacing; return the membership, perhaps one left before.

        One statement, one use. Raises JoinCodeError: one of its classes for each reason.
        """
        params = {"code": (storable_text(code) or "").replace(REPLACEMENT, ""), "user": user.pk}
        for _ in range(TRIES):
            if admitted := self._admit(params):
                return admitted[0]
            refusal = self._refusal(params["code"], user)
            if type(refusal) is not JoinCodeError:
                break
        raise refusal

    def _admit(self, params: dict[str, object]) -> list[models.Model]:
        try:
            with one_statement(self.writer):
                return self._memberships().statement(REDEEM, params)
        except IntegrityError as error:
            is_anonymized = error.__cause__.diag.constraint_name == "tenant_memberships_user_is_not_anonymized"
            if not is_anonymized and error.__cause__.sqlstate != NOT_NULL_VIOLATION:
                raise
        return []

    def _memberships(self) -> models.QuerySet:
        return self.model._meta.apps.get_model("tenancy", "TenantMembership").objects.using(self.writer)

    def _refusal(self, code: str, user: models.Model) -> JoinCodeError:
        """Tell, after the fact, why a code did not let a user in."""
        normalized = Func(F("code"), function="normalize_join_code", output_field=models.TextField())
        asked = Func(Value(code), function="normalize_join_code", output_field=models.TextField())
        found = self.using(self.writer).alias(normalized=normalized).filter(normalized=asked).with_state().first()
        if found is None:
            return UnknownCodeError("No tenant has this code. Look for a typing error.")
        membership = self._memberships().filter(tenant=found.tenant_id, user=user).first()
        if membership and membership.left_at is None:
            return AlreadyAMemberError("The user is a member of this tenant already.")
        if membership and membership.left_reason == membership.LeftReason.REMOVED:
            return RefusedUserError("The user was removed from this tenant. An admin can make them a member again.")
        if found.state in REFUSALS:
            error, words = REFUSALS[found.state]
            return error(f"{words} Ask an admin of the tenant for another one.")
        if not user.__class__.objects.using(self.writer).filter(pk=user.pk, disabled_at=None).exists():
            return RefusedUserError("The user is disabled, or not there any more.")
        return JoinCodeError("The code changed while it was redeemed. Try again.")

    def revoke(self, *, cascade: bool = False) -> int:
        """Revoke these codes; with `cascade`, take back the memberships that they gave last, and return how many.

        Raises LastAdminError where a tenant would be left without an admin; then nothing has changed.
        """
        revoked = self.order_by("pk").values_list(
            Func(F("pk"), Value(cascade), function="revoke_join_code", output_field=models.BigIntegerField()), flat=True
        )
        with last_admin_refused(self.writer):
            return sum(revoked)

    async def aissue(self, **options) -> models.Model:
        return await sync_to_async(self.issue)(**options)

    async def aredeem(self, code: str, user: models.Model) -> models.Model:
        return await sync_to_async(self.redeem)(code, user)

    async def arevoke(self, *, cascade: bool = False) -> int:
        return await sync_to_async(self.revoke)(cascade=cascade)
