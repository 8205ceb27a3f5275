"""Secrets that browsers hold, and the digests that the database holds in their place."""

import hashlib
import secrets

TOKEN_BYTES = 32


def new_token() -> str:
    """A secret of 256 bits in 43 characters for a cookie or an address. OWASP ASVS 7.2.3 asks for 128 bits or more."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> str:
    """The SHA-256 of a token in lower-case hex, by which it is stored and found; of any text, whatever it holds.

    A plain hash does, since no dictionary holds 256 random bits: NIST SP 800-63B 5.1.2.2 asks for a salt below 112.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
