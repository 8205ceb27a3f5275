"""The steps of the move. Each begins by making sure of what it needs, so a killed one is taken up where it was.

preparing -> following -> (cut over) -> reversible -> finishing -> settled in the Admin database,
and back: returning -> reversible -> (cut over) -> unwinding -> settled in the tenant database.
"""

import time
from collections.abc import Callable

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import sql

from keyhub import placement
from keyhub.dbversion import version_list
from keyhub.migrate.executor import LockPolicy, SafeMigrationExecutor
from keyhub.placement import ADMIN, SETTLED, State
from keyhub.splitadmin import cutover, mending, record
from keyhub.splitadmin.cutover import Pause
from keyhub.splitadmin.errors import SplitError
from keyhub.splitadmin.preconditions import refuse_unready, require_admin
from keyhub.splitadmin.record import FINISHING, FOLLOWING, PREPARING, RETURNING, REVERSIBLE, UNWINDING, note
from keyhub.splitadmin.replication import MOST_FAILURES, Feed, Publication
from keyhub.splitadmin.sessions import conninfo, session

POLL_S = 0.2
# Processes ask for the state once in a second: until then some still read the copies.
LAST_READERS_S = 3 * placement.ASKED_EVERY_S

Tell = Callable[[str], None]


def to_admin() -> Feed:
    """What the Admin database follows before it is the home."""
    return Feed("keyhub_to_admin", (Publication("keyhub_to_admin", placement.admin_tables()),))


def kept() -> Publication:
    """What the tenant database follows for good. It is asked before a deletion, by its keys, and so needs not hear."""
    return Publication("keyhub_organizations", placement.followed_tables(), publish="insert, update")


def moved() -> Publication:
    """What it follows besides, as long as there is a way back."""
    followed = placement.followed_tables()
    return Publication("keyhub_moved", tuple(table for table in placement.admin_tables() if table not in followed))


def to_default() -> Feed:
    return Feed("keyhub_to_default", (kept(), moved()))


def state() -> State:
    require_admin()
    placement.forget()
    return placement.state()


def run(tell: Tell) -> State:
    """Move the rows into the Admin database, up to the step from which there is a way back; then there is to repair."""
    now = state()
    if now == State(ADMIN):
        return repair(tell)
    if now == State():
        _refuse_older_state()
        refuse_unready()
        for alias in (ADMIN, DEFAULT_DB_ALIAS):
            record.make_table(alias)
        now = note(State(DEFAULT_DB_ALIAS, PREPARING))
    if now.step in (UNWINDING, RETURNING, FINISHING):
        raise SplitError(
            f"another way is under way ({now.step}). Go on with it: manage.py splitadmin "
            f"{'--finish' if now.step == FINISHING else '--back'}."
        )
    if now.step == PREPARING:
        _prepare(tell)
        now = note(State(DEFAULT_DB_ALIAS, FOLLOWING))
    if now.step == FOLLOWING:
        _follow(tell)
        _rehearse(Pause(DEFAULT_DB_ALIAS, ADMIN, to_admin(), tell))
        now = _cut_over_to_admin(tell)
    if now.step == REVERSIBLE:
        _follow_back(tell)
    return now


def repair(tell: Tell, restored: str | None = None) -> State:
    """Let the tenant database follow the Admin database anew, with the rows that it has.

    `restored` is the alias of the one that was restored from a backup, where one was: what the other one says counts.
    """
    require_admin()
    placement.forget()
    now = placement.read_state(connections[ADMIN if restored == DEFAULT_DB_ALIAS else DEFAULT_DB_ALIAS])
    if now.home != ADMIN:
        raise SplitError(f"there is nothing to repair: {words(now)}.")
    if any(placement.read_state(connections[alias]) != now for alias in (ADMIN, DEFAULT_DB_ALIAS)):
        for alias in (ADMIN, DEFAULT_DB_ALIAS):
            record.make_table(alias)
        note(now)
    is_whole = now.step in (REVERSIBLE, RETURNING)
    if not is_whole:
        _empty_moved(tell)
    mending.mend(Feed(to_default().name, (kept(),)), restored, tell)
    if is_whole:
        _refill_moved(tell)
    return now


def _refuse_older_state() -> None:
    """A tenant database that was restored from a backup of before the move knows nothing of it."""
    admins = placement.read_state(connections[ADMIN])
    if admins.home == ADMIN:
        raise SplitError(
            f"the tenant database says that {words(State())}, and the Admin database that {words(admins)}. Where the "
            "tenant database was restored from a backup of before the move: manage.py splitadmin --restored default "
            "lets it follow again. Stop the site before."
        )


def finish(tell: Tell) -> State:
    """The last step: empty the copies to which nothing refers. From here on the way back copies rows again."""
    now = state()
    if now.step not in (REVERSIBLE, FINISHING):
        raise SplitError(f"there is nothing to finish: {words(now)}.")
    if now.step == REVERSIBLE:
        _follow_back(tell)
        _await_last_readers(tell)
        now = note(State(ADMIN, FINISHING))
    with session(DEFAULT_DB_ALIAS) as tenant, session(ADMIN) as admin:
        _unfollow_moved(tenant, admin)
        _drain(admin, tenant)  # the server's worker begins anew, which takes it a few seconds
    tell("The copies in the tenant database are empty, but for those of organizations, to which its tenants refer.")
    return note(State(ADMIN, SETTLED))


def rollback(tell: Tell) -> State:
    """Undo a move that has not come to its last step; no row is lost, whichever database it was written in."""
    now = state()
    if now.step == SETTLED:
        raise SplitError(f"there is no move to roll back: {words(now)}.")
    if now.step == FINISHING:
        raise SplitError(
            "the last step has begun, which cannot be rolled back. End it (manage.py splitadmin --finish), then "
            "manage.py splitadmin --back."
        )
    if now.step == RETURNING:
        with session(DEFAULT_DB_ALIAS) as tenant, session(ADMIN) as admin:
            _unfollow_moved(tenant, admin)
        return note(State(ADMIN, SETTLED))
    if now.step == REVERSIBLE:
        _follow_back(tell)
        _rehearse(Pause(ADMIN, DEFAULT_DB_ALIAS, to_default(), tell))
        now = _cut_over_to_default(tell)
    return _unwind(tell)


def back(tell: Tell) -> State:
    """From an Admin database of its own to one database: fill the copies again, follow, cut over, take all away."""
    now = state()
    if now.home == DEFAULT_DB_ALIAS and now.step != UNWINDING:
        raise SplitError(f"there is nothing to bring back: {words(now)}.")
    if now.step == SETTLED:
        now = note(State(ADMIN, RETURNING))
    if now.step == RETURNING:
        _refill_moved(tell)
        now = note(State(ADMIN, REVERSIBLE))
    return rollback(tell)


def words(now: State) -> str:
    """A state in words, for the middle of a sentence."""
    where = "the Admin database" if now.home == ADMIN else "the tenant database"
    if now.step == SETTLED:
        return f"organizations live in {where}, and no move is under way"
    return f"organizations live in {where}, and a move is under way ({now.step})"


# The steps


def _prepare(tell: Tell) -> None:
    """Make the tables in the Admin database, by the migrations that concern it, and leave them empty."""
    connection = connections[ADMIN]
    executor = SafeMigrationExecutor(connection, policy=LockPolicy(), tell=tell, versions=version_list.read())
    targets = executor.loader.graph.leaf_nodes()
    plan = executor.migration_plan(targets)
    executor.migrate(targets, plan=plan)
    with session(ADMIN) as admin:
        cutover.close_to_writers(admin)
    tell(f"The Admin database has its tables: {len(executor.loader.recorded | set(_keys(plan)))} migrations.")


def _keys(plan) -> list[tuple[str, str]]:
    return [(migration.app_label, migration.name) for migration, _ in plan]


def _follow(tell: Tell) -> None:
    """Copy the rows, and follow what is written; returns when all rows of before are copied."""
    feed = to_admin()
    with session(DEFAULT_DB_ALIAS) as tenant, session(ADMIN) as admin:
        # An interrupted cut-over may have opened them.
        cutover.close_to_writers(admin)
        feed.publish(tenant)
        if not feed.exists(admin):
            _empty(admin, placement.admin_tables())
            feed.make_slot(tenant)
            feed.subscribe(admin, tenant, conninfo(connections[DEFAULT_DB_ALIAS]), copy_data=True, enabled=True)
        feed.enable(admin)
        _await_copy(feed, admin, tell)
    tell("The Admin database has the rows, and follows what is written.")


def _await_copy(feed: Feed, subscriber: psycopg.Connection, tell: Tell) -> None:
    failures, told = feed.errors(subscriber), None
    while waiting := feed.waiting(subscriber):
        if waiting != told:
            tell(f"Copying {', '.join(waiting)}.")
            told = waiting
        if feed.errors(subscriber) >= failures + MOST_FAILURES:
            raise SplitError(
                f"the server fails to copy {waiting[0]}; its log tells why. What is copied stays: mend the cause and "
                "run this again, or manage.py splitadmin --rollback."
            )
        time.sleep(POLL_S)


def _rehearse(pause: Pause) -> None:
    """Compare all rows before anything depends on them."""
    compared = pause.rehearse()
    if compared.differences:
        raise SplitError(
            "the two databases differ, and nothing was changed: "
            + "; ".join(map(str, compared.differences))
            + ". Somebody has written to the copy, or replication is broken: look for it, or manage.py splitadmin "
            "--rollback and begin anew."
        )
    pause.tell(
        f"{compared.rows} rows are the same on both sides; writers were paused for {compared.paused_s * 1000:.0f} ms."
    )


def _cut_over_to_admin(tell: Tell) -> State:
    forward, feed = to_admin(), to_default()
    with session(DEFAULT_DB_ALIAS) as tenant, session(ADMIN) as admin:
        # What the tenant database will follow begins with what the Admin database writes by itself.
        feed.unsubscribe(tenant)
        feed.publish(admin)
        feed.make_slot(admin)
        feed.subscribe(tenant, admin, conninfo(connections[ADMIN]), copy_data=False, enabled=False)

        def change(home: psycopg.Connection, copy: psycopg.Connection) -> None:
            forward.disable(copy)
            # Also brings to disk what the server has applied, which it does not wait for by itself.
            record.write(copy, State(ADMIN, REVERSIBLE))
            feed.advance_slot(copy)
            with copy.transaction():
                cutover.open_to_writers(copy)
                cutover.guard_deletions(copy, True)
            cutover.close_to_writers(home)
            record.write(home, State(ADMIN, REVERSIBLE))

        def undo(copy: psycopg.Connection) -> None:
            cutover.close_to_writers(copy)
            forward.enable(copy)

        feed.advance_slot(admin)
        compared = Pause(DEFAULT_DB_ALIAS, ADMIN, forward, tell).cut_over(change, undo)
    placement.forget()
    tell(f"Organizations live in the Admin database now. Writers were paused for {compared.paused_s * 1000:.0f} ms.")
    if compared.differences:
        tell(f"The two databases differ ({'; '.join(map(str, compared.differences))}): going back.")
        rollback(tell)
        raise SplitError("the rows were not the same at the moment of the cut-over, and it was rolled back.")
    return state()


def _follow_back(tell: Tell) -> None:
    """Take away what the move needed until the cut-over, and let the tenant database follow."""
    with session(DEFAULT_DB_ALIAS) as tenant, session(ADMIN) as admin:
        to_admin().drop(admin, tenant)
        if not to_default().exists(tenant):
            raise SplitError(
                "the tenant database does not follow the Admin database any more. manage.py splitadmin --repair lets "
                "it follow anew; run this again then."
            )
        to_default().enable(tenant)
        _await_copy(to_default(), tenant, tell)


def _cut_over_to_default(tell: Tell) -> State:
    def change(home: psycopg.Connection, copy: psycopg.Connection) -> None:
        with copy.transaction():
            cutover.open_to_writers(copy)
            record.write(copy, State(DEFAULT_DB_ALIAS, UNWINDING))
        cutover.close_to_writers(home)
        record.write(home, State(DEFAULT_DB_ALIAS, UNWINDING))

    compared = Pause(ADMIN, DEFAULT_DB_ALIAS, to_default(), tell).cut_over(change, lambda copy: None)
    placement.forget()
    tell(f"Organizations live in the tenant database. Writers were paused for {compared.paused_s * 1000:.0f} ms.")
    if compared.differences:
        raise SplitError(
            "the rows were not the same at the moment of the cut-over: "
            + "; ".join(map(str, compared.differences))
            + ". Both databases are kept as they are: compare those rows before manage.py splitadmin --back."
        )
    return state()


def _unwind(tell: Tell) -> State:
    """Take away what was made for the move; the tenant database is the home."""
    with session(DEFAULT_DB_ALIAS) as tenant, session(ADMIN) as admin:
        if _has_tables(admin):
            # A killed cut-over may have left them open for another moment: what was written then is followed still.
            cutover.close_to_writers(admin)
            _drain(admin, tenant)
            to_admin().drop(admin, tenant)
            to_default().drop(tenant, admin)
            cutover.open_to_writers(tenant)
            cutover.guard_deletions(admin, False)
        _empty(admin, placement.admin_tables())
    tell("There is one database again. The Admin database keeps its tables, empty.")
    return note(State())


def _drain(admin: psycopg.Connection, tenant: psycopg.Connection) -> None:
    """Wait until the tenant database has what it follows of the Admin database."""
    feed = to_default()
    subscription = feed.subscription(tenant)
    if subscription is not None and subscription.is_enabled and not feed.arrives(tenant, admin):
        raise SplitError("the tenant database does not apply what the Admin database has; its log tells why.")


def _unfollow_moved(tenant: psycopg.Connection, admin: psycopg.Connection) -> None:
    """Let the tenant database follow no more than its keys refer to, and empty the other copies."""
    feed = to_default()
    if _follows(tenant, feed, moved().name):
        tenant.execute(
            sql.SQL("ALTER SUBSCRIPTION {} DROP PUBLICATION {} WITH (refresh = true)").format(
                sql.Identifier(feed.name), sql.Identifier(moved().name)
            )
        )
    admin.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(moved().name)))
    _empty(tenant, moved().tables)


def _empty_moved(tell: Tell) -> None:
    """Where a backup has brought back copies to which nothing refers."""
    with session(DEFAULT_DB_ALIAS) as tenant:
        for table in moved().tables:
            (rows,) = tenant.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
            if rows:
                _empty(tenant, (table,))
                tell(f"{table} is empty again in the tenant database: its {rows} rows there were of before the move.")


def _refill_moved(tell: Tell) -> None:
    feed = to_default()
    with session(DEFAULT_DB_ALIAS) as tenant, session(ADMIN) as admin:
        feed.publish(admin)
        if not _follows(tenant, feed, moved().name):
            _empty(tenant, moved().tables)
            tenant.execute(
                sql.SQL("ALTER SUBSCRIPTION {} ADD PUBLICATION {} WITH (refresh = true, copy_data = true)").format(
                    sql.Identifier(feed.name), sql.Identifier(moved().name)
                )
            )
        feed.enable(tenant)
        _await_copy(feed, tenant, tell)
    tell("The tenant database has the rows again, and follows what is written.")


def _follows(subscriber: psycopg.Connection, feed: Feed, publication: str) -> bool:
    subscription = feed.subscription(subscriber)
    return subscription is not None and publication in subscription.publications


def _empty(session: psycopg.Connection, tables: tuple[str, ...]) -> None:
    """Empty those of some tables that are there."""
    there = session.execute("SELECT t FROM unnest(%s::text[]) AS t WHERE to_regclass(t) IS NOT NULL", [list(tables)])
    if names := [sql.Identifier(name) for (name,) in there]:
        with cutover.writing_copies(session):
            session.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(names)))


def _has_tables(session: psycopg.Connection) -> bool:
    """Whether the Admin database has come as far as to the triggers, with which its tables are ready."""
    (found,) = session.execute(
        "SELECT count(*) FROM pg_trigger WHERE tgname = %s AND tgrelid = ANY (SELECT to_regclass(t) "
        "FROM unnest(%s::text[]) AS t)",
        [cutover.COPY_TRIGGER, list(placement.admin_tables())],
    ).fetchone()
    return found == len(placement.admin_tables())


def _await_last_readers(tell: Tell) -> None:
    """Wait until no process reads the copies any more, of those that ask for the state."""
    with session(DEFAULT_DB_ALIAS) as tenant:
        (since_s,) = tenant.execute(
            "SELECT extract(epoch FROM clock_timestamp() - changed_at)::float FROM keyhub_split"
        ).fetchone()
    time.sleep(max(0.0, LAST_READERS_S - since_s))
