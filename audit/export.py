"""Shipping the log to elsewhere, in rounds: every row, however late it was committed or backdated, and none twice.

Rows are read in the order of (transaction_id, id), as far as transactions have ended: every row of a transaction below
pg_snapshot_xmin() is committed and seen, or never will be. So what lies behind a position is complete, and a row can
only come in front of it. https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT

Two kinds of rows stand outside of that order, and come first: those from before the column, without a number, and those
that a dump or a copy has brought from another cluster, with numbers that this one has not reached. No snapshot sees a
row of its own cluster with a number from pg_snapshot_xmax() on, but for those of its own transaction.
"""

from __future__ import annotations

import base64
import binascii
import struct
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.db import connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Q, Value
from django.db.models.lookups import GreaterThan

from audit.pages import CursorError
from keyhub.statements import RowValue, StatementQuerySet
from keyhub.transaction_ids import TransactionIdField

if TYPE_CHECKING:
    from audit.models import AuditLog

LONGEST_EXPORT_ROWS = 10_000
UNNUMBERED, FOREIGN, NUMBERED = range(3)  # the parts, in their order
CURSOR = struct.Struct("!qIBQQ16s")
NIL = uuid.UUID(int=0)

# The timeline is that of the WAL that is written: pg_control_checkpoint() is behind it after a promotion. A standby
# writes none, and refuses.
SERVER = """
    SELECT system_identifier, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint,
        pg_snapshot_xmin(pg_current_snapshot())::text
    FROM pg_control_system()
"""


class ExportCursorError(CursorError):
    """A cursor is none of an export's."""

    def __init__(self, problem: str = "The cursor of the export is malformed. Take `next` of the last export, or begin "
                 "without one."):  # fmt: skip
        ValueError.__init__(self, problem)


class OtherClusterError(ExportCursorError):
    def __init__(self):
        super().__init__(
            "The cursor is of another database cluster, which has numbers of its own for its transactions. Begin the "
            "export anew without one, and know rows that come again by their ids."
        )


class LostRowError(ExportCursorError):
    def __init__(self):
        super().__init__(
            "The database was recovered or failed over since, and the last row that was exported is not there any "
            "more. Begin the export anew without a cursor, and know rows that come again by their ids."
        )


@dataclass(frozen=True)
class Export:
    """Rows, and the cursor to go on from, whether there are more rows now or not."""

    rows: list[AuditLog]
    next: str


@dataclass(frozen=True)
class Server:
    """The cluster, the timeline of its WAL, and the number below which all transactions have ended."""

    cluster: int
    timeline: int
    ended_below: int

    @classmethod
    def of(cls, connection: BaseDatabaseWrapper) -> Server:
        with connection.cursor() as cursor:
            cursor.execute(SERVER)
            cluster, timeline, ended_below = cursor.fetchone()
        return cls(cluster, timeline, int(ended_below))


@dataclass(frozen=True)
class Position:
    """Behind which row an export goes on: of this part, and where `exported_below` is above it, from there on.

    The latter moves on also where no row is wanted, so that a filter of few rows is not looked for in the same rows for
    ever. A position without a row is the beginning of its part.
    """

    cluster: int
    timeline: int
    part: int = UNNUMBERED
    exported_below: int = 0
    transaction_id: int = 0
    id: uuid.UUID | None = None

    @classmethod
    def of(cls, cursor: str) -> Position:
        """Raises ExportCursorError."""
        try:
            *numbers, raw = CURSOR.unpack(base64.b64decode(cursor, altchars=b"-_", validate=True))
        except (binascii.Error, struct.error, ValueError, TypeError) as error:
            raise ExportCursorError from error
        position = cls(*numbers, uuid.UUID(bytes=raw))
        if position.part > NUMBERED:
            raise ExportCursorError
        has_row = position.part == UNNUMBERED or position.transaction_id
        return position if has_row else replace(position, id=None)

    @property
    def cursor(self) -> str:
        numbers = self.cluster, self.timeline, self.part, self.exported_below, self.transaction_id
        return base64.urlsafe_b64encode(CURSOR.pack(*numbers, (self.id or NIL).bytes)).decode()

    def behind(self, rows: list[AuditLog]) -> Position:
        if not rows:
            return self
        return replace(self, transaction_id=rows[-1].transaction_id or 0, id=rows[-1].pk)

    def unread(self, server: Server) -> Q | GreaterThan:
        """The rows of the part that lie behind."""
        if self.part == UNNUMBERED:
            return Q(transaction_id=None) & (Q(id__gt=self.id) if self.id else Q())
        row = RowValue(F("transaction_id"), F("id"))
        behind = Q(GreaterThan(row, RowValue(Value(self.transaction_id, TransactionIdField()), Value(self.id or NIL))))
        if self.part == FOREIGN:
            # Of the statement itself: for an earlier snapshot, rows that were committed since would be foreign.
            return behind & Q(transaction_id__gte=_SnapshotXmax()) & ~Q(transaction_id=_OwnNumber())
        if self.exported_below > self.transaction_id:
            behind = Q(transaction_id__gte=self.exported_below)
        return behind & Q(transaction_id__lt=server.ended_below)


class _SnapshotXmax(models.Func):
    template = "pg_snapshot_xmax(pg_current_snapshot())"
    output_field = TransactionIdField()


class _OwnNumber(models.Func):
    """Zero, which no transaction has, where this one has none."""

    template = "COALESCE(pg_current_xact_id_if_assigned(), '0')"
    output_field = TransactionIdField()


@contextmanager
def _in_the_order_of_an_index(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Keep the planner from sorting. Of many rows that one transaction has just written it takes that for cheap, since
    it knows nothing of them, and each export of them would sort all that are left.
    """
    with transaction.atomic(using=connection.alias, savepoint=False), connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('enable_sort'), set_config('enable_sort', 'off', true)")
        before, _ = cursor.fetchone()
        yield
        cursor.execute("SELECT set_config('enable_sort', %s, true)", [before])


class ExportingQuerySet(StatementQuerySet):
    def export(self, since: str | None = None, *, rows: int = 1_000) -> Export:
        """The rows since an earlier export, up to `rows` of them, and `next` to go on from:
        `AuditLog.objects.filter(organization_id=…).export(since)`.

        A row comes once its transaction has ended, and all that began to write before it, in whatever database of the
        cluster. Within a transaction of the caller's own, its own rows do not come, and with REPEATABLE READ none that
        was committed since it began.

        It is read from the primary. Raises ExportCursorError: OtherClusterError after a restore elsewhere or a
        pg_upgrade, LostRowError after a recovery or a failover that has lost rows. ValueError for fewer rows than 1 or
        more than LONGEST_EXPORT_ROWS.
        """
        if not 1 <= rows <= LONGEST_EXPORT_ROWS:
            raise ValueError(f"An export has 1 to {LONGEST_EXPORT_ROWS} rows, not {rows}.")
        position = Position.of(since) if since else None
        connection = connections[self.writer]
        # Few rows of many are found by an index of theirs, and sorted.
        with nullcontext() if self.query.where else _in_the_order_of_an_index(connection):
            return self._export(position, Server.of(connection), rows)

    async def aexport(self, since: str | None = None, *, rows: int = 1_000) -> Export:
        return await sync_to_async(self.export)(since, rows=rows)

    def _export(self, position: Position | None, server: Server, rows: int) -> Export:
        position = self._checked(position, server) if position else Position(server.cluster, server.timeline)
        in_order = self.using(self.writer).order_by("transaction_id", "id")
        found: list[AuditLog] = []
        while True:
            batch = list(in_order.filter(position.unread(server))[: rows - len(found)])
            found += batch
            position = position.behind(batch)
            if len(found) == rows:
                return Export(found, position.cursor)
            if position.part == NUMBERED:
                return Export(found, replace(position, exported_below=server.ended_below).cursor)
            position = Position(position.cluster, position.timeline, position.part + 1)

    def _checked(self, position: Position, server: Server) -> Position:
        """The position as it holds on this server."""
        if position.cluster != server.cluster:
            raise OtherClusterError
        if position.timeline == server.timeline:
            return position
        # What was exported last is there: so are the numbers before it, and none of them is given out again. Of those
        # behind it nobody knows.
        if position.part == NUMBERED and position.id is not None:
            exported = self.model._base_manager.using(self.writer)
            if not exported.filter(transaction_id=position.transaction_id, id=position.id).exists():
                raise LostRowError
        return replace(position, timeline=server.timeline, exported_below=0)
