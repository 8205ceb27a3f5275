"""Sessions in an organization's own console: start, authenticate, revoke."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.db import IntegrityError
from django.db.models.functions import Now

from auth_sessions.lifetimes import lifetime_of
from auth_sessions.tokens import digest, new_token
from keyhub.client_input import storable_text
from keyhub.statements import StatementQuerySet, follows_moves, one_statement

if TYPE_CHECKING:
    from auth_sessions.models import ConsoleSession

CHECK_VIOLATION = "23514"
FOREIGN_KEY_VIOLATION = "23503"
NOT_NULL_VIOLATION = "23502"
NO_SUCH_CONSOLE = {CHECK_VIOLATION, FOREIGN_KEY_VIOLATION, NOT_NULL_VIOLATION}


class ConsoleSessionError(Exception):
    """A console session cannot be started or used; the text is one sentence."""


class InvalidConsoleSessionError(ConsoleSessionError):
    """There is no live console session of this token: unknown, revoked or expired."""

    def __init__(self):
        super().__init__("The console session does not exist or has ended. Sign in again.")


class ClosedConsoleError(ConsoleSessionError):
    """The organization does not exist, or the database admits no session of it, say because it is suspended."""

    def __init__(self):
        super().__init__(
            "No console session can be started, because the organization does not exist or is not active. "
            "Ask an operator to look at its status."
        )


class ConsoleSessionQuerySet(StatementQuerySet):
    def live(self) -> ConsoleSessionQuerySet:
        """Those that have not expired, by the database's clock."""
        return self.filter(expires_at__gt=Now())

    @follows_moves
    def start(self, organization_id: str, *, lifetime: timedelta | None = None) -> tuple[ConsoleSession, str]:
        """Start a session; return its row and the token, which only the browser keeps.

        `lifetime` is IDENTITY_SESSION_LIFETIME unless told. Raises ClosedConsoleError, and ValueError for a lifetime
        that is none.
        """
        ends = Now() + lifetime_of(lifetime)
        token = new_token()
        database = self.writer
        try:
            with one_statement(database):
                row = self.using(database).create(
                    session_id=digest(token),
                    organization_id=storable_text(organization_id),
                    expires_at=ends,
                )
        except IntegrityError as error:
            if getattr(error.__cause__, "sqlstate", None) in NO_SUCH_CONSOLE:
                raise ClosedConsoleError from error
            raise
        row.refresh_from_db(using=database, fields=["expires_at"])
        return row, token

    def authenticate(self, token: str) -> ConsoleSession:
        """The live session of a token. Raises InvalidConsoleSessionError."""
        session = next(iter(self.live().filter(session_id=digest(token or ""))[:1]), None)
        if session is None:
            raise InvalidConsoleSessionError
        return session

    def revoke(self) -> int:
        """End these sessions, and return how many. The rows go: the table has no column that says so."""
        return self.delete()[0]

    async def astart(self, *args, **kwargs):
        return await sync_to_async(self.start)(*args, **kwargs)

    async def aauthenticate(self, *args, **kwargs):
        return await sync_to_async(self.authenticate)(*args, **kwargs)

    async def arevoke(self, *args, **kwargs):
        return await sync_to_async(self.revoke)(*args, **kwargs)
