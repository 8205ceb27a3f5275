"""The life of a session: start, authenticate, rotate, switch the tenant, revoke.

The database holds the rules: auth_sessions/sql/0009 and 0010, and the constraints of the model. Each operation is one
statement whose WHERE is the rule, so that two at once cannot both win. In REPEATABLE READ one of two at once may end
in SQLSTATE 40001 (django.db.OperationalError), which the caller repeats.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import IntegrityError, connections, models
from django.db.models import Exists, ExpressionWrapper, OuterRef, Q
from django.db.models.functions import Now

from accounts.models import User
from auth_sessions.lifetimes import lifetime_of
from auth_sessions.tokens import digest, new_token
from keyhub.client_input import first_address, storable_text
from keyhub.statements import StatementQuerySet, one_statement
from tenancy.models import Tenant, TenantMembership

if TYPE_CHECKING:
    from auth_sessions.models import Session

TOUCH_INTERVAL = timedelta(minutes=1)
REASON_CHARACTERS = 200

INSERT = """
    INSERT INTO sessions
        (session_id, user_id, active_membership_id, expires_at, last_accessed_at, ip_address, user_agent)
    SELECT %s, users.id, %s, statement_timestamp() + %s, statement_timestamp(), %s::inet, %s
    FROM users WHERE users.id = %s AND users.disabled_at IS NULL FOR SHARE
    RETURNING sessions.*
"""
# live() by hand: the ORM takes longer to write it than the server to find the row.
LIVE = """
    NOT revoked AND expires_at > statement_timestamp()
        AND coalesce(last_accessed_at, created_at) > statement_timestamp() - %(idle_for)s
        AND EXISTS (SELECT FROM users WHERE users.id = sessions.user_id AND disabled_at IS NULL)
"""
AUTHENTICATE = f"""
    SELECT {{columns}}, last_accessed_at IS NULL OR last_accessed_at <= statement_timestamp() - %(touched_every)s
    FROM sessions
    WHERE session_id = %(session_id)s AND {LIVE}
"""  # noqa: S608 constants
# The tenant is locked before the session, as by whoever suspends its organization, and the membership before it, as by
# whoever leaves: so none of them ever waits for the other.
SWITCH = f"""
    WITH tenant AS MATERIALIZED (SELECT FROM tenants WHERE id = %(tenant)s FOR SHARE),
    membership AS MATERIALIZED (
        SELECT id FROM tenant_memberships
        WHERE tenant_id = %(tenant)s AND id = coalesce(%(membership)s, id) AND left_at IS NULL
            AND (SELECT count(*) FROM tenant) >= 0 AND user_id = (SELECT user_id FROM sessions WHERE id = %(session)s)
        FOR NO KEY UPDATE
    )
    UPDATE sessions SET active_membership_id = membership.id
    FROM membership
    WHERE sessions.id = %(session)s AND {LIVE}
    RETURNING active_membership_id
"""  # noqa: S608 constants
MEMBERSHIP_RULES = {"sessions_active_membership_is_active", "sessions_active_membership_id_user_id_fkey"}


class SessionError(Exception):
    """A session cannot be started or used; the text is one sentence that tells nothing to whoever guesses."""


class InvalidSessionError(SessionError):
    """There is no live session of this token: unknown, revoked, expired, idle for too long, or its user disabled."""

    def __init__(self):
        super().__init__("The session does not exist or has ended. Sign in again.")


class DisabledUserError(SessionError):
    """The user is disabled, or gone."""

    def __init__(self):
        super().__init__("No session can be started, because the user is disabled. Ask an operator to enable the user.")


class ClosedOrganizationError(SessionError):
    """The organization is suspended or archived."""

    def __init__(self):
        super().__init__("The tenant's organization is not active. Choose a tenant of another one, or ask an operator.")


class SessionMembershipError(SessionError):
    """The membership is another user's, was left, or does not exist."""

    def __init__(self):
        super().__init__("The user is not an active member of this tenant. Choose another tenant, or join it again.")


class SessionQuerySet(StatementQuerySet):
    """All times are the database's; SQL writers in other languages keep to the same constraints and triggers."""

    def live(self) -> SessionQuerySet:
        """Sessions that may act: not revoked, not expired, not idle too long, of a user who is not disabled.

        OWASP ASVS 7.3.1 (idle) and 7.3.2 (absolute lifetime), NIST SP 800-63B 4.2.3. Idleness counts from the last
        access, or from the beginning; accesses are noted once a minute.
        """
        # EXISTS, not a join: so an UPDATE has its conditions on the row itself, and they hold after a wait for a lock.
        # OR, not coalesce(): the planner knows how many rows of a column are so new, and nothing of an expression.
        idle_since = Now() - settings.IDENTITY_SESSION_IDLE_TIMEOUT
        return self.filter(
            Q(last_accessed_at__gt=idle_since) | Q(last_accessed_at=None, created_at__gt=idle_since),
            Exists(User.objects.filter(pk=OuterRef("user_id"), disabled_at__isnull=True)),
            revoked=False,
            expires_at__gt=Now(),
        )

    def start(
        self,
        user: User,
        *,
        membership: TenantMembership | None = None,
        ip_address: object = None,
        user_agent: object = None,
        lifetime: timedelta | None = None,
    ) -> tuple[Session, str]:
        """Start a session; return its row and the token, which only the browser keeps.

        `lifetime` is IDENTITY_SESSION_LIFETIME unless told. `ip_address` and `user_agent` may be anything a header
        holds: the first valid address is taken, the agent is cut. Raises DisabledUserError, SessionMembershipError,
        ClosedOrganizationError, and ValueError for a lifetime that is none.
        """
        token = new_token()
        parameters = [
            digest(token),
            membership and membership.pk,
            lifetime_of(lifetime),
            first_address(ip_address),
            storable_text(user_agent),
            user.pk,
        ]
        try:
            with one_statement(self.writer):
                started = self.statement(INSERT, parameters)
        except IntegrityError as error:
            _raise_kindly(error)
            raise
        if not started:
            raise DisabledUserError
        return started[0], token

    def authenticate(self, token: str) -> Session:
        """The live session of a token. What the caller names in select_related() comes with it, in the same SELECT.

        At most once a minute the access is noted, by one UPDATE; `expires_at` never moves. Raises InvalidSessionError.
        """
        query = self.query
        is_plain = not (
            query.select_related or query.where or query.annotations or query.select_for_update
            or query.deferred_loading[0] or self._prefetch_related_lookups
        )  # fmt: skip
        found = self._row(token) if is_plain else self._row_by_the_orm(token)
        if found is None:
            raise InvalidSessionError
        session, is_due = found
        if is_due:
            self._all().filter(_due(), pk=session.pk, revoked=False).update(last_accessed_at=Now())
        return session

    def _row(self, token: str) -> tuple[Session, bool] | None:
        """The live session of a token, and whether the access is to be noted."""
        database, fields = self.writer, self.model._meta.concrete_fields
        parameters = {
            "session_id": digest(token or ""),
            "touched_every": TOUCH_INTERVAL,
            "idle_for": settings.IDENTITY_SESSION_IDLE_TIMEOUT,
        }
        with connections[database].cursor() as cursor:
            cursor.execute(AUTHENTICATE.format(columns=", ".join(field.column for field in fields)), parameters)
            row = cursor.fetchone()
        return row and (self.model.from_db(database, [field.attname for field in fields], row[:-1]), row[-1])

    def _row_by_the_orm(self, token: str) -> tuple[Session, bool] | None:
        """As _row(), with what the caller has asked for."""
        live = self.using(self.writer).live().filter(session_id=digest(token or ""))
        noted = live.annotate(_is_due=ExpressionWrapper(_due(), output_field=models.BooleanField()))
        return next(((session, session._is_due) for session in noted), None)

    def rotate(self, session: Session | str) -> str:
        """Give a live session a new token, and return it; the old one is dead at once, and of two at once one wins.

        `session` is a token, or a row with its `session_id` as read. OWASP ASVS 7.2.4: a new token whenever somebody
        has authenticated. Raises InvalidSessionError.
        """
        old = digest(session) if isinstance(session, str) else session.session_id
        token = new_token()
        if not self._all().live().filter(session_id=old).update(session_id=digest(token), last_accessed_at=Now()):
            raise InvalidSessionError
        if not isinstance(session, str):
            session.session_id = digest(token)
        return token

    def switch_tenant(self, session: Session, place: Tenant | TenantMembership) -> Session:
        """Let a live session act in another tenant, or membership, of its user; return it as it is then.

        A leave at the same moment wins: its trigger takes the membership off, or this is refused. Raises
        InvalidSessionError, SessionMembershipError, ClosedOrganizationError.
        """
        is_membership = isinstance(place, TenantMembership)
        params = {
            "session": session.pk,
            "tenant": place.tenant_id if is_membership else place.pk,
            "membership": place.pk if is_membership else None,
            "idle_for": settings.IDENTITY_SESSION_IDLE_TIMEOUT,
        }
        live = self._all().live().filter(pk=session.pk)
        try:
            with one_statement(live.db), connections[live.db].cursor() as cursor:
                cursor.execute(SWITCH, params)
                switched = cursor.fetchone()
        except IntegrityError as error:
            _raise_kindly(error)
            raise
        if not switched:
            raise SessionMembershipError if live.exists() else InvalidSessionError
        session.refresh_from_db(using=live.db, fields=["active_membership"])
        return session

    def revoke(self, reason: str) -> int:
        """Revoke those of these sessions that are not revoked yet; return how many."""
        return self.filter(revoked=False).update(
            revoked=True, revoked_at=Now(), revoked_reason=storable_text(reason, REASON_CHARACTERS)
        )

    def revoke_all(self, user: User, *, except_session: Session | None = None, reason: str) -> int:
        """Revoke a user's sessions, but for one, say the one that asks (OWASP ASVS 7.4.3); return how many."""
        rows = self._all().filter(user_id=user.pk)
        return (rows.exclude(pk=except_session.pk) if except_session else rows).revoke(reason)

    async def astart(self, *args, **kwargs):
        return await sync_to_async(self.start)(*args, **kwargs)

    async def aauthenticate(self, *args, **kwargs):
        return await sync_to_async(self.authenticate)(*args, **kwargs)

    async def arotate(self, *args, **kwargs):
        return await sync_to_async(self.rotate)(*args, **kwargs)

    async def aswitch_tenant(self, *args, **kwargs):
        return await sync_to_async(self.switch_tenant)(*args, **kwargs)

    async def arevoke(self, *args, **kwargs):
        return await sync_to_async(self.revoke)(*args, **kwargs)

    async def arevoke_all(self, *args, **kwargs):
        return await sync_to_async(self.revoke_all)(*args, **kwargs)

    def _all(self) -> SessionQuerySet:
        """All sessions of the database that writes go to."""
        return type(self)(self.model, using=self.writer)


def _due() -> Q:
    """Whether an access is to be noted."""
    return Q(last_accessed_at__isnull=True) | Q(last_accessed_at__lte=Now() - TOUCH_INTERVAL)


def _raise_kindly(error: IntegrityError) -> None:
    """Raise the SessionError of a rule of the database; of others, nothing."""
    rule = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
    if rule in MEMBERSHIP_RULES:
        raise SessionMembershipError from error
    if rule == "sessions_organization_is_active":
        raise ClosedOrganizationError from error
    if rule == "sessions_user_is_enabled":
        raise DisabledUserError from error
