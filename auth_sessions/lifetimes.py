"""How long a session lives."""

from datetime import timedelta

from django.conf import settings

LONGEST = timedelta(days=3_650)


def lifetime_of(asked: timedelta | None) -> timedelta:
    """What was asked for, or IDENTITY_SESSION_LIFETIME. Raises ValueError for what is no lifetime of a session."""
    lifetime = settings.IDENTITY_SESSION_LIFETIME if asked is None else asked
    if not timedelta(0) < lifetime <= LONGEST:
        raise ValueError(f"A session lives for more than nothing and {LONGEST.days} days at most.")
    return lifetime
