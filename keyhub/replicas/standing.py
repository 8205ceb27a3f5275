"""What a standby says of itself, beside what the primary says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

LONGEST_LAG_S = 30
BEGINNING = "0/0"

# Where DATABASE_URL leads to a standby, as it may for dbhealth, its place is where it has come to.
PRIMARY = """
    SELECT system_identifier, current_database(), clock_timestamp(),
        CASE WHEN pg_is_in_recovery() THEN timeline_id
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END,
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text
    FROM pg_control_system(), pg_control_checkpoint()
"""
REPLICA = """
    SELECT pg_is_in_recovery(), system_identifier, current_database(), timeline_id,
        (replayed >= %(since)s::pg_lsn) IS TRUE, greatest(pg_wal_lsn_diff(%(place)s, replayed), 0)::float8,
        extract(epoch FROM %(now)s - pg_last_xact_replay_timestamp())::float8
    FROM pg_control_system(), pg_control_checkpoint(), pg_last_wal_replay_lsn() AS replayed
"""


@dataclass(frozen=True)
class Primary:
    """The primary's database, its clock, its timeline, and the place in its log up to which it has written."""

    system_identifier: int
    database: str
    now: datetime
    timeline: int
    place: str

    @classmethod
    def of(cls, connection: BaseDatabaseWrapper) -> Primary:
        """Raises django.db.Error."""
        with connection.cursor() as cursor:
            cursor.execute(PRIMARY)
            return cls(*cursor.fetchone())


@dataclass(frozen=True)
class Standing:
    """A replica's database, and how far it has come in the primary's log.

    `timeline` is that of its last restartpoint, the only one that every role may ask a standby for. `has_replayed` says
    whether it has come to the place asked for. It is `lag_bytes` behind, and its last transaction was committed `lag_s`
    ago by the primary's clock; None where it has replayed none since it was started.
    """

    is_standby: bool
    system_identifier: int
    database: str
    timeline: int
    has_replayed: bool
    lag_bytes: float | None
    lag_s: float | None

    @classmethod
    def of(cls, connection: BaseDatabaseWrapper, primary: Primary, since: str = BEGINNING) -> Standing:
        """Raises django.db.Error."""
        with connection.cursor() as cursor:
            cursor.execute(REPLICA, {"since": since, "place": primary.place, "now": primary.now})
            return cls(*cursor.fetchone())

    def why_no_replica_of(self, primary: Primary) -> str | None:
        """What it is in place of a standby of this database, as a sentence's end; None where it is one."""
        if self.system_identifier != primary.system_identifier:
            return "it belongs to another server than DATABASE_URL's"
        if self.database != primary.database:
            return f"its database is {self.database}, and that of DATABASE_URL is {primary.database}"
        if not self.is_standby:
            return "it is no standby, or was promoted"
        if self.timeline != primary.timeline:
            # Places in the log of another timeline say nothing of this one's.
            return (
                f"its timeline is {self.timeline}, and the primary's is {primary.timeline}: it follows another server, "
                "or has made no restartpoint since a failover"
            )
        return None

    @property
    def is_fresh(self) -> bool:
        """Whether it is at most LONGEST_LAG_S behind.

        While there is nothing to replay it is not behind, however old the last transaction is.
        """
        return self.lag_bytes == 0 or (self.lag_s is not None and self.lag_s <= LONGEST_LAG_S)


def one_line(error: Error) -> str:
    """What the server or libpq says."""
    return " ".join(str(error).split())
