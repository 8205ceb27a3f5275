"""PostgreSQL's lock modes on tables.

https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
"""

from collections.abc import Iterable

ACCESS_SHARE = "ACCESS SHARE"
ROW_SHARE = "ROW SHARE"
ROW_EXCLUSIVE = "ROW EXCLUSIVE"
SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE"
SHARE = "SHARE"
SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"
EXCLUSIVE = "EXCLUSIVE"
ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"

# From the weakest to the strongest, as the manual lists them.
MODES = (
    ACCESS_SHARE,
    ROW_SHARE,
    ROW_EXCLUSIVE,
    SHARE_UPDATE_EXCLUSIVE,
    SHARE,
    SHARE_ROW_EXCLUSIVE,
    EXCLUSIVE,
    ACCESS_EXCLUSIVE,
)
# By mode, how pg_locks calls it: AccessShareLock.
IN_PG_LOCKS = {f"{mode.title().replace(' ', '')}Lock": mode for mode in MODES}

# The manual's table of conflicting modes, of which each row is all modes from one on, but for two of them.
CONFLICTS = {
    ACCESS_SHARE: frozenset(MODES[7:]),
    ROW_SHARE: frozenset(MODES[6:]),
    ROW_EXCLUSIVE: frozenset(MODES[4:]),
    SHARE_UPDATE_EXCLUSIVE: frozenset(MODES[3:]),
    SHARE: frozenset(MODES[2:]) - {SHARE},
    SHARE_ROW_EXCLUSIVE: frozenset(MODES[2:]),
    EXCLUSIVE: frozenset(MODES[1:]),
    ACCESS_EXCLUSIVE: frozenset(MODES),
}


def without_weaker(modes: Iterable[str]) -> set[str]:
    """Leave out every mode that stops nobody whom another one of them does not stop already.

    SHARE and SHARE UPDATE EXCLUSIVE stay both: neither stops all that the other stops.
    """
    modes = set(modes)
    return {mode for mode in modes if not any(CONFLICTS[mode] < CONFLICTS[other] for other in modes)}


def who_waits(mode: str) -> str:
    """Say whose plain reads (ACCESS SHARE) and writes (ROW EXCLUSIVE) wait while a mode is held or asked for."""
    if ACCESS_SHARE in CONFLICTS[mode]:
        return "readers and writers"
    return "writers" if ROW_EXCLUSIVE in CONFLICTS[mode] else "nobody"
