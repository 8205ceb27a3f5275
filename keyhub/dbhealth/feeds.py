"""Whether one of the two databases follows the other by logical replication: keyhub.H063 to H067 and H069.

Each side is looked at where it is: publications, slots, and how much has not arrived, in the database that is followed;
the subscription, its worker, and what stopped it, in the one that follows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from keyhub.dbhealth.aside import aside, comes_true
from keyhub.dbhealth.examination import Examination
from keyhub.dbhealth.findings import Finding, Severity
from keyhub.dbhealth.server import LIMITS, duration, size
from keyhub.placement import ADMIN, SETTLED, State
from keyhub.splitadmin.replication import SUBSCRIPTION

if TYPE_CHECKING:
    from keyhub.splitadmin.replication import Feed, Publication

PUBLICATIONS = """
    SELECT pubname, concat_ws(', ', CASE WHEN pubinsert THEN 'insert' END, CASE WHEN pubupdate THEN 'update' END,
                              CASE WHEN pubdelete THEN 'delete' END, CASE WHEN pubtruncate THEN 'truncate' END),
        CASE WHEN puballtables THEN 'all tables'
             WHEN EXISTS (SELECT FROM pg_publication_namespace WHERE pnpubid = publication.oid) THEN 'a schema'
             WHEN EXISTS (SELECT FROM pg_publication_rel WHERE prpubid = publication.oid
                          AND (prqual IS NOT NULL OR prattrs IS NOT NULL)) THEN 'parts of tables'
             ELSE coalesce((SELECT string_agg(prrelid::regclass::text, ', ' ORDER BY prrelid::regclass::text)
                            FROM pg_publication_rel WHERE prpubid = publication.oid), 'no table') END
    FROM pg_publication AS publication WHERE pubname = ANY(%s)
"""
# What the other side has is in pg_stat_replication as soon as it is applied, and in the slot for those without
# pg_monitor. A reply comes every ten seconds at least.
SLOTS = """
    SELECT slot_name, active, wal_status, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint,
        pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(replay_lsn, confirmed_flush_lsn))::bigint,
        extract(epoch FROM greatest(replay_lag, clock_timestamp() - reply_time))::float,
        slot_name = %(feed)s || '_' || datoid
    FROM pg_replication_slots LEFT JOIN pg_stat_replication ON pid = active_pid
    WHERE database = current_database() AND slot_name ~ '^keyhub_to_(admin|default)_[0-9]+$'
    ORDER BY slot_name
"""
HAS_ARRIVED = """
    SELECT bool_or(coalesce(replay_lsn, confirmed_flush_lsn) >= %s::pg_lsn)
    FROM pg_replication_slots LEFT JOIN pg_stat_replication ON pid = active_pid
    WHERE slot_name = %s || '_' || datoid AND database = current_database()
"""
SUBSCRIPTIONS = """
    WITH worker AS (SELECT subid, pid FROM pg_stat_subscription WHERE pid IS NOT NULL)
    SELECT subname, subenabled AND subslotname IS NOT NULL, subpublications::text[],
        (SELECT coalesce(array_agg(srrelid::regclass::text), '{}') FROM pg_subscription_rel
         WHERE srsubid = subscription.oid AND srsubstate = 'r'),
        (SELECT (to_jsonb(stats) - '{subid,subname,stats_reset}'::text[])::text FROM pg_stat_subscription_stats AS stats
         WHERE stats.subid = subscription.oid),
        (SELECT extract(epoch FROM clock_timestamp() - min(waitstart))::float
         FROM pg_locks JOIN worker USING (pid) WHERE subid = subscription.oid AND NOT granted),
        (SELECT jsonb_agg(DISTINCT jsonb_build_object('pid', blocker, 'name', format('pid %%s (%%s, %%s)', blocker,
                              coalesce(usename, 'unknown'), coalesce(nullif(application_name, ''), 'unnamed'))))::text
         FROM worker CROSS JOIN LATERAL unnest(pg_blocking_pids(worker.pid)) AS blocker
             LEFT JOIN pg_stat_activity ON pg_stat_activity.pid = blocker
         WHERE subid = subscription.oid)
    FROM pg_subscription AS subscription
    WHERE subname = ANY(%s) AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    ORDER BY subname
"""
# One that applies, not one that copies a table at first; one that begins again and again never receives anything.
RUNS = f"""
    SELECT count(*) > 0 FROM pg_stat_subscription
    WHERE pid IS NOT NULL AND relid IS NULL AND received_lsn IS NOT NULL AND subid = ({SUBSCRIPTION})
"""
CONFLICT = "confl_"
# What changed a row that was not there: it went by, and nothing stopped.
PASSED_BY = "confl_update_missing"

Results = Iterator[Finding]


@dataclass(frozen=True)
class Wanted:
    """What must be there in a state: a feed, with these publications, and those that come or go by a move."""

    feed: Feed
    followed: str
    follower: str
    publications: tuple[Publication, ...]
    passing: tuple[Publication, ...]
    is_being_made: bool
    mend: str


def _wanted(state: State) -> Wanted | None:
    from keyhub.splitadmin import procedure
    from keyhub.splitadmin.record import FOLLOWING, REVERSIBLE

    if state.home == ADMIN:
        kept, moved = (procedure.kept(),), (procedure.moved(),)
        return Wanted(
            procedure.to_default(), ADMIN, DEFAULT_DB_ALIAS,
            publications=kept + moved if state.step == REVERSIBLE else kept,
            passing=moved if state.step not in (REVERSIBLE, SETTLED) else (),
            is_being_made=False,
            mend="manage.py splitadmin --repair",
        )  # fmt: skip
    if state.step == FOLLOWING:
        feed = procedure.to_admin()
        return Wanted(
            feed, DEFAULT_DB_ALIAS, ADMIN, feed.publications, passing=(), is_being_made=True,
            mend="manage.py splitadmin --rollback",
        )  # fmt: skip
    return None


def feeds(examination: Examination) -> Results:
    """Look at what this database tells, and at what it follows."""
    ((is_standby,),) = examination.rows("SELECT pg_is_in_recovery()")
    if is_standby:
        return
    wanted = _wanted(examination.state)
    yield from _of_followed(examination, wanted if wanted and wanted.followed == examination.place else None)
    yield from _of_follower(examination, wanted if wanted and wanted.follower == examination.place else None)


def has_arrived(followed: BaseDatabaseWrapper, feed: str) -> bool:
    """Whether what the followed database has written by now arrives within the time that it usually takes."""
    with followed.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_flush_lsn()::text")
        (lsn,) = cursor.fetchone()

        def arrived() -> bool:
            cursor.execute(HAS_ARRIVED, [lsn, feed])
            return bool(cursor.fetchone()[0])

        return comes_true(arrived)


# The followed side


def _of_followed(examination: Examination, wanted: Wanted | None) -> Results:
    from keyhub.splitadmin import plan, procedure

    ours = {
        publication.name: publication
        for feed in (procedure.to_admin(), procedure.to_default())
        for publication in feed.publications
    }
    found = {name: (publish, tables) for name, publish, tables in examination.rows(PUBLICATIONS, [list(ours)])}
    slots = examination.rows(SLOTS, {"feed": wanted.feed.name if wanted else ""})
    has_slot = any(is_wanted for *_, is_wanted in slots)
    if wanted and (has_slot or not wanted.is_being_made):
        yield from _publications(wanted, found)
    if wanted and not has_slot and not wanted.is_being_made:
        yield Finding(
            "keyhub.H064", Severity.CRITICAL, wanted.feed.name,
            f"the replication slot does not exist: what is written here never comes to the database "
            f"{wanted.follower!r}",
            wanted.mend,
        )  # fmt: skip
    for name, active, status, retained, behind, seconds, is_wanted in slots:
        if is_wanted:
            yield from _slot(examination, wanted, name, active, status, retained)
            yield from _lag(wanted, behind, seconds) if active else ()
        elif examination.state.step == SETTLED:
            yield _left_over("replication slot", name, f"SELECT pg_drop_replication_slot('{name}');")
        elif problem := _retention(status, retained, active):
            yield Finding("keyhub.H064", Severity.CRITICAL, name, problem, plan.ways_on(examination.state))
    if examination.state.step == SETTLED:
        allowed = {publication.name for publication in wanted.publications} if wanted else set()
        for name in sorted(set(found) - allowed):
            yield _left_over("publication", name, f"DROP PUBLICATION {name};")


def _publications(wanted: Wanted, found: dict[str, tuple[str, str]]) -> Results:
    for publication in wanted.publications:
        should = (publication.publish, ", ".join(sorted(publication.tables)))
        have = found.get(publication.name)
        if have is None:
            problem = f"the publication does not exist: the database {wanted.follower!r} does not hear of {should[1]}"
        elif have != should:
            problem = (
                f"the publication tells {have[0] or 'nothing'} of {have[1]}, and should tell {should[0]} of {should[1]}"
            )
        else:
            continue
        yield Finding("keyhub.H063", Severity.CRITICAL, publication.name, problem, wanted.mend)


def _slot(
    examination: Examination, wanted: Wanted, name: str, active: bool, status: str, retained: int | None
) -> Results:
    def is_read() -> bool:
        slots = examination.rows(SLOTS, {"feed": wanted.feed.name})
        return any(active for slot, active, *_ in slots if slot == name)

    problem = _retention(status, retained, active)
    if problem is None and not active and not comes_true(is_read):
        problem = f"nobody reads the slot, and it holds {size(retained)} of WAL back"
    if problem:
        severity = Severity.WARNING if active and status in ("reserved", "extended") else Severity.CRITICAL
        yield Finding("keyhub.H064", severity, name, problem, wanted.mend)


def _retention(status: str, retained: int | None, active: bool) -> str | None:
    if status == "lost":
        return "the slot is lost: who reads from it can never go on"
    if status == "unreserved" or (retained or 0) > LIMITS["slot_bytes"]:
        return f"the slot holds {size(retained)} of WAL back" + ("" if active else ", and nobody reads it")
    return None


def _lag(wanted: Wanted, behind: int | None, seconds: float | None) -> Results:
    if behind and ((seconds or 0) > LIMITS["lag_s"] or behind > LIMITS["lag_bytes"]):
        yield Finding(
            "keyhub.H066", Severity.WARNING, wanted.feed.name,
            f"the database {wanted.follower!r} is {duration(seconds)} and {size(behind)} behind",
            f"look at the log, the disk and the locks of the server of the database {wanted.follower!r}, and at the "
            "network between the two",
        )  # fmt: skip


def _left_over(what: str, name: str, mend: str) -> Finding:
    return Finding("keyhub.H069", Severity.WARNING, name, f"the {what} is left over from a move that has ended", mend)


# The side that follows


def _of_follower(examination: Examination, wanted: Wanted | None) -> Results:
    from keyhub.splitadmin import procedure

    names = [procedure.to_admin().name, procedure.to_default().name]
    found = {name: facts for name, *facts in examination.rows(SUBSCRIPTIONS, [names])}
    if examination.state.step == SETTLED:
        for name in sorted(set(found) - ({wanted.feed.name} if wanted else set())):
            yield _left_over("subscription", name, _drop(name))
    if wanted is None:
        return
    feed = wanted.feed.name
    if feed in found:
        yield from _subscription(examination, wanted, *found[feed])
    elif not wanted.is_being_made:
        yield Finding(
            "keyhub.H065", Severity.CRITICAL, feed,
            f"the subscription does not exist: nothing that is written in the database {wanted.followed!r} comes here",
            wanted.mend,
        )  # fmt: skip


def _drop(name: str) -> str:
    return "\n".join(
        f"{statement};"
        for statement in (
            f"ALTER SUBSCRIPTION {name} DISABLE",
            f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)",
            f"DROP SUBSCRIPTION {name}",
        )
    )


def _subscription(
    examination: Examination,
    wanted: Wanted,
    enabled: bool,
    publications: list[str],
    ready: list[str],
    stats: str | None,
    blocked_s: float | None,
    blockers: str | None,
) -> Results:
    feed = wanted.feed.name
    should = {publication.name for publication in wanted.publications}
    passing = {publication.name for publication in wanted.passing}
    unready = {table for publication in wanted.publications for table in publication.tables} - set(ready)
    problem, mend = None, wanted.mend
    if not enabled:
        problem, mend = "the subscription is disabled", f"ALTER SUBSCRIPTION {feed} ENABLE;"
    elif not should <= set(publications) <= should | passing:
        problem = f"it follows {_list(publications)}, and should follow {_list(should)}"
    elif unready and not wanted.is_being_made:
        problem = f"it does not follow {_list(unready)}"
    if problem:
        yield Finding(
            "keyhub.H065", Severity.CRITICAL, feed,
            f"{problem}: what is written in the database {wanted.followed!r} does not come here", mend,
        )  # fmt: skip
        return
    if blockers and (blocked_s or 0) > LIMITS["blocked_s"]:
        sessions = json.loads(blockers)
        names = ", ".join(each["name"] for each in sessions)
        yield Finding(
            "keyhub.H066", Severity.WARNING, feed,
            f"its worker has waited for a lock for {duration(blocked_s)}, held by {names}: nothing comes meanwhile",
            "\n".join(f"SELECT pg_terminate_backend({each['pid']});" for each in sessions),
        )  # fmt: skip
        return
    yield from _errors(examination, wanted, json.loads(stats or "{}"))


def _errors(examination: Examination, wanted: Wanted, stats: dict[str, int]) -> Results:
    """What stops the worker. A count of long ago is none: then what is written arrives."""
    feed = wanted.feed.name
    failures = stats.get("apply_error_count", 0) + stats.get("sync_error_count", 0)
    if failures and not _goes_on(wanted):
        conflicts = [
            f"{name.removeprefix(CONFLICT)} {count}"
            for name, count in sorted(stats.items())
            if name.startswith(CONFLICT) and count
        ]
        of = f" (conflicts: {', '.join(conflicts)})" if conflicts else ""
        yield Finding(
            "keyhub.H067", Severity.CRITICAL, feed,
            f"its worker has failed {failures} times{of}, and does not go on; the log of the server tells why",
            wanted.mend,
        )  # fmt: skip
    elif not comes_true(lambda: bool(examination.rows(RUNS, [feed])[0][0])):
        yield Finding(
            "keyhub.H065", Severity.CRITICAL, feed,
            f"its worker does not run, so that nothing comes here from the database {wanted.followed!r}; the server's "
            "log tells why: it may not reach that database, or have no worker left (max_logical_replication_workers)",
            wanted.mend,
        )  # fmt: skip
    elif passed_by := stats.get(PASSED_BY, 0):
        yield Finding(
            "keyhub.H067", Severity.NOTICE, feed,
            f"updates of rows that are not here have gone by, {passed_by} in all",
            "manage.py dbhealth --data --only keyhub.H068 tells which rows differ; then manage.py splitadmin --repair",
        )  # fmt: skip


def _goes_on(wanted: Wanted) -> bool:
    if wanted.followed not in connections:
        return False
    try:
        with aside(wanted.followed) as followed:
            return has_arrived(followed, wanted.feed.name)
    except DatabaseError:
        return False


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
