"""An OAuth sign-in under way: begun for one browser, and finished once, by it, within ten minutes.

`state` against forged answers: RFC 6749 10.12, RFC 9700 4.7. PKCE: RFC 7636. `nonce`: OpenID Connect Core 3.1.2.1. The
browser's secret, in a cookie, binds the state to the browser that asked: without it an attacker lets somebody finish a
sign-in that the attacker has begun (RFC 9700 4.7.1).
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async

from auth_sessions.tokens import digest, new_token
from keyhub.client_input import storable_text
from keyhub.statements import StatementQuerySet

if TYPE_CHECKING:
    from auth_sessions.models import OAuthState

LIFETIME_MINUTES = 10
# check_oauth_redirect_uri is the rule. OWASP, Unvalidated Redirects and Forwards; surrogates PostgreSQL cannot hold.
LOCAL_PATH = re.compile(r"/(?:[^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff][^\\\x00-\x1f\x7f-\x9f\ud800-\udfff]*)?")

CONSUME = f"""
    UPDATE oauth_states SET consumed_at = statement_timestamp()
    WHERE state = %s AND browser_digest = %s AND provider = %s AND consumed_at IS NULL
      AND created_at > statement_timestamp() - interval '{LIFETIME_MINUTES} minutes'
    RETURNING *
"""  # noqa: S608 a number of this module's


class OAuthStateError(Exception):
    """A sign-in cannot be begun or finished; the text is one sentence."""


class UnsafeRedirectError(OAuthStateError):
    """The place to go to after the sign-in is not on this site."""

    def __init__(self):
        super().__init__(
            "The page to go to after signing in is not a path of this site. Give a path such as /home, without a host."
        )


class RefusedStateError(OAuthStateError):
    """The answer of a provider is refused. One sentence for all reasons, so that nobody learns by trying."""

    def __init__(self):
        super().__init__("The sign-in cannot be finished, because it is unknown, used, or too old. Begin it again.")


@dataclass(frozen=True)
class BegunSignIn:
    """What the browser is sent away with: `state`, `code_challenge` and `nonce` in the address, `browser` in a cookie.

    The cookie is HttpOnly, Secure and SameSite=Lax. `code_verifier` goes to the provider with the code alone.
    """

    row: OAuthState
    state: str = field(repr=False)
    browser: str = field(repr=False)
    code_verifier: str = field(repr=False)
    code_challenge: str
    nonce: str = field(repr=False)


class OAuthStateQuerySet(StatementQuerySet):
    def begin(self, provider: str, redirect_uri: str | None = None) -> BegunSignIn:
        """Begin a sign-in at a provider, after which the browser goes to the path `redirect_uri`.

        Raises UnsafeRedirectError.
        """
        if redirect_uri is not None and not LOCAL_PATH.fullmatch(redirect_uri):
            raise UnsafeRedirectError
        state, browser, code_verifier, nonce = (new_token() for _ in range(4))
        row = self.create(
            provider=storable_text(provider),
            state=digest(state),
            browser_digest=digest(browser),
            code_verifier=code_verifier,
            nonce=nonce,
            redirect_uri=redirect_uri,
        )
        return BegunSignIn(row, state, browser, code_verifier, s256(code_verifier), nonce)

    def consume(self, state: str, browser: str, provider: str) -> OAuthState:
        """Use a state up, and return its row with `code_verifier`, `nonce` and `redirect_uri`; exactly one caller can.

        `state` is from the address, `browser` from the cookie, `provider` the one whose answer it is (RFC 9700 4.4).
        Raises RefusedStateError.
        """
        parameters = [digest(state or ""), digest(browser or ""), storable_text(provider)]
        consumed = self.statement(CONSUME, parameters)
        if not consumed:
            raise RefusedStateError
        return consumed[0]

    async def abegin(self, *args, **kwargs):
        return await sync_to_async(self.begin)(*args, **kwargs)

    async def aconsume(self, *args, **kwargs):
        return await sync_to_async(self.consume)(*args, **kwargs)


def s256(code_verifier: str) -> str:
    """The code_challenge of a code_verifier: RFC 7636 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode("ascii")).digest()).rstrip(b"=").decode("ascii")
