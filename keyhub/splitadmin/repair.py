"""The tenant database follows the Admin database anew, whatever has broken of it, while both are written to."""

import time
from collections.abc import Iterable

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import sql

from keyhub import placement
from keyhub.placement import ADMIN, State
from keyhub.splitadmin import cutover, digests, procedure, record
from keyhub.splitadmin.errors import SplitError
from keyhub.splitadmin.procedure import MOST_FAILURES, POLL_S, Tell
from keyhub.splitadmin.record import RETURNING, REVERSIBLE
from keyhub.splitadmin.replication import Feed, position
from keyhub.splitadmin.sessions import conninfo, session

TRIES = 5
COLUMNS = """
    SELECT attname, atttypid = 'jsonb'::regtype FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname
"""


def repair(tell: Tell) -> State:
    """Make publications, slot and subscription anew, and bring over the rows that differ.

    Rows that the tenant database alone has are put back into the Admin database: what refers to them is not lost.
    Raises SplitError where the Admin database is not the home of the rows, or rows go on differing.
    """
    now = procedure.state()
    if now.home != ADMIN:
        raise SplitError(f"there is nothing to repair: {procedure.words(now)}.")
    record.make_table(ADMIN)
    feed = Feed(procedure.to_default().name, (procedure.kept(),))
    with session(DEFAULT_DB_ALIAS) as tenant, session(ADMIN) as admin:
        record.write(admin, now)
        procedure.to_default().drop(tenant, admin)
        for table in placement.followed_tables():
            _put_back(tenant, admin, table, tell)
        feed.publish(admin)
        feed.make_slot(admin)
        feed.subscribe(tenant, admin, conninfo(connections[ADMIN]), copy_data=False, enabled=True)
        for table in placement.followed_tables():
            _make_equal(feed, tenant, admin, table, tell)
    tell("The tenant database follows the Admin database.")
    if now.step in (REVERSIBLE, RETURNING):
        procedure.refill_moved(tell)
    return now


def _put_back(tenant: psycopg.Connection, admin: psycopg.Connection, table: str, tell: Tell) -> None:
    """Before the slot is made, so that the tenant database is not told of what it has."""
    alone = [id for id, (there, _) in digests.differing(admin, tenant, table).items() if there is None]  # noqa: A001
    if alone:
        _copy(tenant, admin, table, alone)
        tell(f"Back in the Admin database, from the tenant database: {table} {', '.join(sorted(alone))}.")


def _make_equal(feed: Feed, tenant: psycopg.Connection, admin: psycopg.Connection, table: str, tell: Tell) -> None:
    brought = 0
    for _ in range(TRIES):
        before = digests.differing(admin, tenant, table)
        _await(feed, tenant, admin)
        # What was not the same before, and is still as it was, is not on its way.
        after = digests.differing(admin, tenant, table)
        differing = {id: hashes for id, hashes in after.items() if before.get(id) == hashes}  # noqa: A001
        if not differing:
            tell(f"{table} has the same rows in both databases, after {brought} were brought over.")
            return
        with cutover.writing_copies(tenant):
            _copy(admin, tenant, table, [id for id, (_, here) in differing.items() if here is None])  # noqa: A001
        _tell_again(admin, table, [id for id, hashes in differing.items() if None not in hashes])  # noqa: A001
        brought += len(differing)
    raise SplitError(f"{table} goes on differing: {', '.join(sorted(differing)[: digests.MOST_TOLD])}.")


def _await(feed: Feed, tenant: psycopg.Connection, admin: psycopg.Connection) -> None:
    lsn = position(admin)
    while not feed.has_applied(admin, lsn):
        if feed.errors(tenant) >= MOST_FAILURES:
            raise SplitError("the tenant database does not apply what the Admin database has; its log tells why.")
        time.sleep(POLL_S)


def _copy(source: psycopg.Connection, target: psycopg.Connection, table: str, ids: Iterable[str]) -> None:
    """Copy some rows, in the text form of COPY, which is the same on all versions."""
    names = sql.SQL(", ").join(sql.Identifier(name) for name, _ in source.execute(COLUMNS, [table]).fetchall())
    out = sql.SQL("COPY (SELECT {} FROM {} WHERE id::text = ANY({})) TO STDOUT").format(
        names, sql.Identifier(table), sql.Literal(list(ids))
    )
    back = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
    with source.cursor().copy(out) as reading, target.cursor().copy(back) as writing:
        for data in reading:
            writing.write(data)


def _tell_again(admin: psycopg.Connection, table: str, ids: list[str]) -> None:
    """Update rows to what they are: the tenant database hears of all their columns."""
    # Of a large value it hears only where that is made anew.
    of_json = [name for name, is_json in admin.execute(COLUMNS, [table]).fetchall() if is_json]
    anew = [sql.SQL("{0} = {0}::text::jsonb").format(sql.Identifier(name)) for name in of_json]
    admin.execute(
        sql.SQL("UPDATE {} SET {} WHERE id::text = ANY(%s)").format(
            sql.Identifier(table), sql.SQL(", ").join([sql.SQL("id = id"), *anew])
        ),
        [ids],
    )
