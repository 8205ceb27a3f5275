"""What a client says of itself, made fit to be stored: nobody fails to sign in by a header."""

import ipaddress

USER_AGENT_CHARACTERS = 1_000
ADDRESSES_CHARACTERS = 2_000


def storable_text(text: object, longest: int = USER_AGENT_CHARACTERS) -> str | None:
    """Cut to `longest` characters; what PostgreSQL cannot hold (NUL, lone surrogates) becomes U+FFFD. None stays."""
    if text is None:
        return None
    cut = str(text)[:longest].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return "".join("\N{REPLACEMENT CHARACTER}" if "\ud800" <= letter <= "\udfff" else letter for letter in cut)


def first_address(text: object) -> str | None:
    """The first valid address of a list such as X-Forwarded-For holds, with or without its port; None without one.

    Only what a trusted proxy has put first may be believed: that is the caller's to know.
    """
    for candidate in str(text or "")[:ADDRESSES_CHARACTERS].split(","):
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
