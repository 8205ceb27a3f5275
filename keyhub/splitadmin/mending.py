"""Two databases of which one was restored, or whose replication has ended, are brought together again.

The copies in the tenant database are made what the Admin database has in the snapshot in which a new slot begins; what
is written from then on arrives through that slot. So nothing is missed and nothing comes twice, whoever writes
meanwhile, and a run that is killed anywhere is done once more from its beginning.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import sql

from keyhub import placement
from keyhub.dbhealth.feeds import PUBLICATIONS
from keyhub.placement import ADMIN
from keyhub.splitadmin import cutover
from keyhub.splitadmin.copying import Copying, copying
from keyhub.splitadmin.errors import SplitError
from keyhub.splitadmin.preconditions import refuse_unready_publisher, refuse_unrepairable
from keyhub.splitadmin.replication import Feed
from keyhub.splitadmin.sessions import conninfo, session

LOOKS = 3
PAUSE_S = 0.5
MOST_TOLD = 10
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

WHICH_IS_RIGHT = (
    "Where the Admin database was restored from a backup, give them back to it: manage.py splitadmin --restored admin. "
    "Else let the tenant database have what the Admin database has: manage.py splitadmin --restored default."
)

Tell = Callable[[str], None]


def mend(feed: Feed, restored: str | None, tell: Tell) -> None:
    """Let the tenant database have what it follows of the Admin database, and follow it.

    `restored` is the alias of the database that was restored from a backup, where one was. To the Admin database is
    given back what the tenant database has of later times; from the tenant database goes what was deleted since.
    Raises SplitError where rows are left that the tenant database has alone, or of later times.
    """
    with session(DEFAULT_DB_ALIAS) as tenant, session(ADMIN) as admin:
        refuse_unrepairable(tenant, admin)
        _let_the_home_be_written(tenant, admin)
        if restored == ADMIN:
            _give_back(feed, tenant, admin, tell)
        if fault := _fault(feed, tenant, admin) or _fault_of_rows(feed, tenant, admin):
            tell(f"The tenant database follows anew: {fault}.")
            _follow_anew(feed, restored, tenant, admin, tell)
        else:
            tell("The tenant database follows the Admin database, and has what it has.")
        if left := [line for table in placement.followed_tables() for line in _left(table, tenant, admin, restored)]:
            raise SplitError("\n".join([*left, *(() if restored else [WHICH_IS_RIGHT])]))


def _let_the_home_be_written(tenant: psycopg.Connection, admin: psycopg.Connection) -> None:
    """And not its copy; a backup of the time of the move may say something else."""
    if _awake(admin) != {(table, cutover.DELETION_TRIGGER) for table in placement.followed_tables()}:
        cutover.open_to_writers(admin)
        cutover.guard_deletions(admin, True)
    if _awake(tenant) != {(table, cutover.COPY_TRIGGER) for table in placement.admin_tables()}:
        cutover.close_to_writers(tenant)
        cutover.guard_deletions(tenant, False)


def _awake(own: psycopg.Connection) -> set[tuple[str, str]]:
    """The triggers that a home or a copy has, of those that can sleep."""
    rows = own.execute(
        "SELECT relname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE tgenabled <> 'D' "
        "AND tgname = ANY(%s) AND tgrelid = ANY(SELECT to_regclass(t) FROM unnest(%s::text[]) AS t)",
        [[cutover.COPY_TRIGGER, cutover.DELETION_TRIGGER], list(placement.admin_tables())],
    )
    return set(rows.fetchall())


# Whether there is something to mend


def _fault(feed: Feed, tenant: psycopg.Connection, admin: psycopg.Connection) -> str | None:
    """What is wrong with replication, for the end of a sentence."""
    told = {
        name: (publish, tables)
        for name, publish, tables in admin.execute(PUBLICATIONS, [[each.name for each in feed.publications]])
    }
    for publication in feed.publications:
        if publication.name not in told:
            return "the Admin database does not publish what it follows"
        if told[publication.name] != (publication.publish, ", ".join(sorted(publication.tables))):
            return "the Admin database publishes something else"
    kept = admin.execute(
        "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s AND database = current_database()",
        [feed.slot(admin)],
    ).fetchone()
    if kept is None:
        return "the Admin database has no slot for it"
    if kept[0] == "lost":
        return "the slot in the Admin database has lost what it was to keep (max_slot_wal_keep_size)"
    subscription = feed.subscription(tenant)
    if subscription is None:
        return "the tenant database has no subscription"
    if not subscription.is_enabled:
        return "the subscription is disabled"
    told_of = {publication.name for publication in feed.publications}
    if subscription.slot != feed.slot(admin) or set(subscription.publications) != told_of:
        return "the subscription is to something else"
    if {table for publication in feed.publications for table in publication.tables} - feed.followed(tenant):
        return "the subscription leaves tables out"
    return None


def _fault_of_rows(feed: Feed, tenant: psycopg.Connection, admin: psycopg.Connection) -> str | None:
    """What the tenant database lacks although replication is whole, as after a point-in-time recovery.

    What is written or deleted at this moment is not lacking: it is looked for more than once.
    """
    lacking: set[tuple[str, str]] | None = None
    for _ in range(LOOKS):
        with session(ADMIN) as reader:
            reader.execute(SNAPSHOT)
            reader.execute("SELECT FROM pg_class LIMIT 1")
            if not feed.arrives(tenant, admin):
                return "what the Admin database writes does not arrive"
            found = set()
            for table in placement.followed_tables():
                with copying(tenant, "tenant", reader, table) as copy:
                    found |= {(table, row) for row in _outdated(copy)}
        lacking = found if lacking is None else lacking & found
        if not lacking:
            return None
        time.sleep(PAUSE_S)
    return f"{len(lacking)} rows are missing there, or older"


def _outdated(copy: Copying) -> list[str]:
    found = copy.differences()
    return [*found.missing, *found.older, *found.other]


# The mends


def _give_back(feed: Feed, tenant: psycopg.Connection, admin: psycopg.Connection, tell: Tell) -> None:
    """What the Admin database has lost by being restored, the copies in the tenant database may still have."""
    for table in placement.followed_tables():
        with copying(admin, "Admin", tenant, table) as copy:
            found = copy.differences()
        if found.missing or found.older:
            feed.unsubscribe(tenant)  # to what it has, an insertion would be in the way
            with copying(admin, "Admin", tenant, table) as copy:
                copy.lock()
                found = copy.differences()
                copy.take_over([*found.missing, *found.older])
        tell(
            f"{table} that are given back to the Admin database: {len(found.missing)} that it lacked, "
            f"{len(found.older)} that it had of older times."
        )


def _follow_anew(
    feed: Feed, restored: str | None, tenant: psycopg.Connection, admin: psycopg.Connection, tell: Tell
) -> None:
    feed.drop(tenant, admin)
    refuse_unready_publisher(admin)
    feed.publish(admin)
    with session(ADMIN, replication="database") as walsender, session(ADMIN) as reader:
        try:
            snapshot = feed.make_slot_of_snapshot(admin, walsender)
            reader.execute(SNAPSHOT)
            reader.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
            for table in placement.followed_tables():
                with copying(tenant, "tenant", reader, table) as copy:
                    copy.lock()
                    if restored == DEFAULT_DB_ALIAS:  # another row may have by now what is unique
                        copy.delete(copy.differences().alone)
                    rows = _outdated(copy)
                    copy.take_over(rows)
                tell(f"{table} that were missing or older in the tenant database: {len(rows)}.")
            feed.subscribe(tenant, admin, conninfo(connections[ADMIN]), copy_data=False, enabled=True)
        except BaseException:
            with contextlib.suppress(psycopg.Error):  # it would keep the log for nobody
                feed.drop_slot(admin)
            raise
    if not feed.arrives(tenant, admin):
        raise SplitError(
            "the tenant database does not apply what the Admin database has; the logs of both servers tell why. Mend "
            "the cause and run this again."
        )


def _left(table: str, tenant: psycopg.Connection, admin: psycopg.Connection, restored: str | None) -> Iterator[str]:
    """Deal with what the tenant database has alone, or of later times; yield what somebody must decide."""
    with copying(tenant, "tenant", admin, table) as copy:
        found = copy.differences()
        if not (found.alone or found.newer):
            return
        # Nothing arrives any more: what is alone now, and the Admin database does not have either, is alone.
        copy.lock()
        found = copy.differences()
        alone = _not_there(admin, table, found.alone)
        newer = _not_as_new_there(admin, table, found.newer)
        if restored == DEFAULT_DB_ALIAS:
            copy.take_over(newer)
            if kept := copy.delete(alone):
                yield (
                    f"{table} that were deleted in the Admin database, and to which {_list(set(kept.values()))} of the "
                    f"restored tenant database refers: {_list(kept)}. Delete what refers to them, or let it refer to "
                    "others, and run this again."
                )
            return
        referred = copy.referred(alone)
    if alone:
        by = f"; {_list(set(referred.values()))} refers to {len(referred)} of them" if referred else ""
        yield f"{table} that the tenant database alone has: {_list(alone)}{by}."
    if newer:
        yield f"{table} that are of later times in the tenant database than in the Admin database: {_list(newer)}."


def _not_there(admin: psycopg.Connection, table: str, rows: Iterable[str]) -> list[str]:
    query = sql.SQL("SELECT id::text FROM {} WHERE id::text = ANY(%s)").format(sql.Identifier(table))
    there = {row for (row,) in admin.execute(query, [list(rows)])}
    return [row for row in rows if row not in there]


def _not_as_new_there(admin: psycopg.Connection, table: str, rows: dict[str, str]) -> list[str]:
    query = sql.SQL(
        "SELECT id::text FROM {} JOIN unnest(%s::text[], %s::timestamptz[]) AS copy (copied, copied_at) "
        "ON copied = id::text WHERE copied_at > updated_at ORDER BY 1"
    ).format(sql.Identifier(table))
    return [row for (row,) in admin.execute(query, [list(rows), list(rows.values())])]


def _list(names: Collection[str]) -> str:
    told = sorted(names)[:MOST_TOLD]
    return ", ".join(told) + (f", … ({len(names)} in all)" if len(names) > MOST_TOLD else "")
