"""Durations as settings and options write them: 30m, 24h, 7d."""

import re
from datetime import timedelta

UNITS = {"m": "minutes", "h": "hours", "d": "days"}
DURATION = re.compile(r"([1-9]\d{0,5})([mhd])")


def parse_duration(text: str) -> timedelta:
    """`30m`, `24h`, `7d`. Raises ValueError."""
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no duration: write 30m, 24h or 7d")
    return timedelta(**{UNITS[match[2]]: int(match[1])})
