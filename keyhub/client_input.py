"""What a client says of itself, made fit to be stored: nobody fails to sign in by a header."""

import ipaddress

from django.conf import settings
from django.http import HttpRequest

LONGEST_TEXT_CHARACTERS = 1_000
ADDRESSES_CHARACTERS = 2_000
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def storable_text(value: object, longest: int = LONGEST_TEXT_CHARACTERS) -> str | None:
    """Cut to `longest` characters; what PostgreSQL cannot hold (NUL, lone surrogates) becomes U+FFFD. None stays."""
    if value is None:
        return None
    try:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)
    except ValueError:  # an integer of thousands of digits
        return REPLACEMENT
    text = text[:longest]
    if text.isascii() and "\0" not in text:  # nearly always, and by far the fastest to tell
        return text
    return "".join(REPLACEMENT if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def first_address(value: object) -> str | None:
    """The first valid address of a list such as X-Forwarded-For holds, with or without its port; None without one.

    Only what a trusted proxy has put first may be believed: that is the caller's to know.
    """
    for candidate in (storable_text(value or "", ADDRESSES_CHARACTERS) or "").split(","):
        address = candidate.strip()
        if address.startswith("["):  # [::1]:443
            address = address[1:].partition("]")[0]
        elif address.count(":") == 1:  # 192.0.2.1:443
            address = address.partition(":")[0]
        try:
            return str(ipaddress.ip_address(address.partition("%")[0]))  # inet has no zones
        except ValueError:
            continue
    return None


def client_address(request: HttpRequest) -> str | None:
    """Where a request came from: the peer, or what the TLS proxy has seen; None where that has no address.

    Of X-Forwarded-For only the last address is the proxy's own word (BEHIND_TLS_PROXY), the ones before are the
    client's: RFC 7239, section 8.1.
    """
    peer = request.META.get("REMOTE_ADDR")
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "") if settings.BEHIND_TLS_PROXY else ""
    return first_address(forwarded.rpartition(",")[2]) or first_address(peer)
