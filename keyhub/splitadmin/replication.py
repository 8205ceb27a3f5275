"""PostgreSQL's own logical replication between the two databases.

Slots are made by themselves, before their subscription: CREATE SUBSCRIPTION would wait for itself where both databases
are on one server. https://www.postgresql.org/docs/current/logical-replication-subscription.html
"""

import time
from dataclasses import dataclass

import psycopg
from psycopg import sql

FAILOVER_SLOTS_SINCE = 170000
POLL_S = 0.1
# PostgreSQL's launcher begins a worker anew after five seconds.
STALLED_S = 30.0
MOST_FAILURES = 3


@dataclass(frozen=True)
class Publication:
    """Tables whose changes are told: by which statements."""

    name: str
    tables: tuple[str, ...]
    publish: str = "insert, update, delete, truncate"


@dataclass(frozen=True)
class Subscription:
    """What a subscriber knows of a feed."""

    is_enabled: bool
    slot: str | None
    publications: list[str]


@dataclass(frozen=True)
class Feed:
    """One direction: a subscription in one database to publications of the other one."""

    name: str
    publications: tuple[Publication, ...]

    def slot(self, publisher: psycopg.Connection) -> str:
        """The name of its slot, of which a server has one for all of its databases."""
        (oid,) = publisher.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
        return f"{self.name}_{oid}"

    def publish(self, publisher: psycopg.Connection) -> None:
        """Make the publications, or what is wrong or missing of them."""
        for publication in self.publications:
            name = sql.Identifier(publication.name)
            tables = sql.SQL(", ").join(map(sql.Identifier, publication.tables))
            if not publisher.execute("SELECT FROM pg_publication WHERE pubname = %s", [publication.name]).rowcount:
                publisher.execute(
                    sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish = {})").format(
                        name, tables, sql.Literal(publication.publish)
                    )
                )

    def unpublish(self, publisher: psycopg.Connection) -> None:
        for publication in self.publications:
            publisher.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(publication.name)))

    def make_slot(self, publisher: psycopg.Connection) -> None:
        """Make the slot anew: from here on the publisher keeps what it writes."""
        self.drop_slot(publisher)
        # Kept by a standby, so that a failover of the publisher loses nothing.
        failover = ", failover => true" if publisher.info.server_version >= FAILOVER_SLOTS_SINCE else ""
        publisher.execute(
            f"SELECT pg_create_logical_replication_slot(%s, 'pgoutput'{failover})", [self.slot(publisher)]
        )

    def make_slot_of_snapshot(self, publisher: psycopg.Connection, walsender: psycopg.Connection) -> str:
        """As make_slot(), by a session of replication; return the name of a snapshot of the moment in which it begins.

        The snapshot can be taken up for as long as that session does nothing else.
        """
        self.drop_slot(publisher)
        failover = ", FAILOVER" if publisher.info.server_version >= FAILOVER_SLOTS_SINCE else ""
        slot = sql.Identifier(self.slot(publisher))
        statement = sql.SQL("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput (SNAPSHOT 'export'{})")
        row = walsender.execute(statement.format(slot, sql.SQL(failover))).fetchone()
        return row[2]

    def drop_slot(self, publisher: psycopg.Connection) -> None:
        """Drop the slot, where there is one, and the walsender that still reads from it."""
        publisher.execute(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots "
            "WHERE slot_name = %s AND active_pid IS NOT NULL",
            [self.slot(publisher)],
        )
        publisher.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s",
            [self.slot(publisher)],
        )

    def advance_slot(self, publisher: psycopg.Connection) -> None:
        """Let the slot begin here: what is on disk by now, the subscriber has already."""
        publisher.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_flush_lsn())", [self.slot(publisher)])

    def subscription(self, subscriber: psycopg.Connection) -> Subscription | None:
        """The subscription as it is, where there is one."""
        row = subscriber.execute(FACTS, [self.name]).fetchone()
        return None if row is None else Subscription(*row)

    def exists(self, subscriber: psycopg.Connection) -> bool:
        return self.subscription(subscriber) is not None

    def subscribe(
        self,
        subscriber: psycopg.Connection,
        publisher: psycopg.Connection,
        conninfo: str,
        copy_data: bool,
        enabled: bool,
    ) -> None:
        """Make the subscription, of a slot that is there."""
        subscriber.execute(
            sql.SQL(
                "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} WITH (create_slot = false, slot_name = {}, "
                "copy_data = {}, enabled = {})"
            ).format(
                sql.Identifier(self.name),
                sql.Literal(conninfo),
                sql.SQL(", ").join(sql.Identifier(publication.name) for publication in self.publications),
                sql.Literal(self.slot(publisher)),
                sql.Literal(copy_data),
                sql.Literal(enabled),
            )
        )

    def enable(self, subscriber: psycopg.Connection) -> None:
        subscriber.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(self.name)))

    def disable(self, subscriber: psycopg.Connection) -> None:
        subscriber.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(self.name)))

    def unsubscribe(self, subscriber: psycopg.Connection) -> None:
        """Drop the subscription, where there is one; its slot stays, and so this needs no publisher that answers."""
        if self.exists(subscriber):
            self.disable(subscriber)
            name = sql.Identifier(self.name)
            subscriber.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(name))
            subscriber.execute(sql.SQL("DROP SUBSCRIPTION {}").format(name))

    def drop(self, subscriber: psycopg.Connection, publisher: psycopg.Connection) -> None:
        """Leave nothing of it."""
        self.unsubscribe(subscriber)
        self.drop_slot(publisher)
        self.unpublish(publisher)

    def waiting(self, subscriber: psycopg.Connection) -> list[str]:
        """The tables whose rows are still being copied."""
        return [table for table, state in subscriber.execute(TABLES, [self.name]) if state != READY]

    def followed(self, subscriber: psycopg.Connection) -> set[str]:
        """The tables whose rows are copied, and whose changes arrive."""
        return {table for table, state in subscriber.execute(TABLES, [self.name]) if state == READY}

    def errors(self, subscriber: psycopg.Connection) -> int:
        """How many times the server has failed to copy or to apply."""
        (count,) = subscriber.execute(ERRORS, [self.name]).fetchone()
        return count

    def is_at_work(self, subscriber: psycopg.Connection) -> bool:
        """Whether a worker of the subscriber is connected to the publisher."""
        return bool(subscriber.execute(WORKERS, [self.name]).rowcount)

    def is_read(self, publisher: psycopg.Connection) -> bool:
        """Whether somebody reads from the slot."""
        return bool(publisher.execute(READERS, [self.slot(publisher)]).rowcount)

    def received(self, subscriber: psycopg.Connection) -> int | None:
        """How many bytes of the publisher's log the subscriber's own worker has seen; None where none is at work."""
        row = subscriber.execute(RECEIVED, [self.name]).fetchone()
        return row and row[0]

    def has_applied(self, publisher: psycopg.Connection, lsn: str) -> bool:
        """Whether the subscriber has all that the publisher had written at a position of its log."""
        (applied,) = publisher.execute(APPLIED, [lsn, self.slot(publisher)]).fetchone()
        return applied

    def arrives(self, subscriber: psycopg.Connection, publisher: psycopg.Connection) -> bool:
        """Wait until the subscriber has applied what there is by now; False where it is at a standstill."""
        lsn, failures = position(publisher), self.errors(subscriber)
        seen, stalled_at = None, time.monotonic() + STALLED_S
        while True:
            received = self.received(subscriber)
            # The slot does not tell whose worker reads from it, and the worker not from which slot.
            if received and received >= bytes_at(lsn) and self.has_applied(publisher, lsn):
                return True
            if received != seen:
                seen, stalled_at = received, time.monotonic() + STALLED_S
            if self.errors(subscriber) >= failures + MOST_FAILURES or time.monotonic() > stalled_at:
                return False
            time.sleep(POLL_S)


READY = "r"
SUBSCRIPTION = """
    SELECT oid FROM pg_subscription WHERE subname = %s
        AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
FACTS = f"SELECT subenabled, subslotname, subpublications FROM pg_subscription WHERE oid = ({SUBSCRIPTION})"  # noqa: S608
TABLES = f"""
    SELECT srrelid::regclass::text, srsubstate FROM pg_subscription_rel WHERE srsubid = ({SUBSCRIPTION}) ORDER BY 1
"""  # noqa: S608
ERRORS = f"""
    SELECT coalesce(sum(apply_error_count + sync_error_count), 0)::bigint FROM pg_stat_subscription_stats
    WHERE subid = ({SUBSCRIPTION})
"""  # noqa: S608
WORKERS = f"SELECT FROM pg_stat_subscription WHERE subid = ({SUBSCRIPTION}) AND pid IS NOT NULL"
READERS = "SELECT FROM pg_replication_slots WHERE slot_name = %s AND active"
RECEIVED = f"""
    SELECT (received_lsn - '0/0')::bigint FROM pg_stat_subscription
    WHERE subid = ({SUBSCRIPTION}) AND relid IS NULL AND pid IS NOT NULL
"""  # noqa: S608
APPLIED = """
    SELECT coalesce(bool_or(replay_lsn >= %s::pg_lsn), false)
    FROM pg_replication_slots JOIN pg_stat_replication ON pid = active_pid WHERE slot_name = %s
"""


def position(publisher: psycopg.Connection) -> str:
    """A position of the server's log behind all that is committed, on disk."""
    # A commit of its own brings to disk what was committed before it without waiting for that.
    publisher.execute("SELECT pg_logical_emit_message(true, 'keyhub', 'position')")
    (lsn,) = publisher.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    return lsn


def bytes_at(lsn: str) -> int:
    """How many bytes of the log come before a position, as Feed.received() counts them."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)
