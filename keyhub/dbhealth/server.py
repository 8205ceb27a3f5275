"""What endangers the database as a whole: keyhub.H020 to H035, from one query (server.sql), and H036."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from keyhub.dbhealth.examination import Examination
from keyhub.dbhealth.findings import Finding, Severity, Unreadable

QUERY = (Path(__file__).parent / "server.sql").read_text(encoding="utf-8")
MB, GB = 10**6, 10**9
LIMITS = {
    "long_transaction_s": 15 * 60,
    "idle_in_transaction_s": 5 * 60,
    "blocked_s": 10,
    "lag_s": 60,
    "lag_bytes": GB,
    "slot_bytes": 4 * GB,
    "dead_rows": 10_000,
    "vacuum_h": 24,
    "unused_days": 30,
    "unused_bytes": 100 * MB,
    "bloat_bytes": 100 * MB,
    "bloat_factor": 2.5,
}
SEQUENCE_WARNING_PERCENT, SEQUENCE_CRITICAL_PERCENT = 70, 90
# Of the 2**31 transactions after which the server stops taking writes: autovacuum begins at a tenth of them.
IDS_WARNING, IDS_CRITICAL = 1_000_000_000, 1_600_000_000

Facts = dict
Results = Iterator[Finding | Unreadable]
# Settings by which a crash or a bad disk loses rows, and what each means.
DANGERS = {
    "fsync": (Severity.CRITICAL, "a crash of the machine corrupts the database", "on"),
    "full_page_writes": (Severity.CRITICAL, "a crash of the machine can leave torn pages", "on"),
    "zero_damaged_pages": (Severity.CRITICAL, "damaged pages are emptied in silence", "off"),
    "ignore_checksum_failure": (Severity.CRITICAL, "damaged pages are served in silence", "off"),
    "ignore_system_indexes": (Severity.WARNING, "every catalogue look-up scans its table", "off"),
    "autovacuum": (Severity.CRITICAL, "dead rows pile up, and transaction ids run out", "on"),
    "track_counts": (Severity.CRITICAL, "autovacuum does not know what to do", "on"),
    "synchronous_commit": (
        Severity.WARNING,
        "a crash loses the last transactions that were said to be committed",
        "on",
    ),
}
# Slots and walsenders between the two databases: keyhub.H064 and H066 tell of them.
OF_SPLIT = re.compile(r"keyhub_to_(admin|default)_\d+|keyhub splitadmin")
CHECKSUMS_OFF = "-- The server must be stopped for it: https://www.postgresql.org/docs/current/app-pgchecksums.html"


def server(examination: Examination) -> Results:
    """Look at sequences, transaction ids, sessions, replication, settings, upkeep and versions, in one query."""
    rows = [
        (check, name, facts if isinstance(facts, dict) else json.loads(facts))
        for check, name, facts in examination.rows(QUERY, LIMITS)
    ]
    _read_fresh_sequences(examination, rows)
    for check, name, facts in rows:
        if facts.get("table") in examination.drifted_tables or (examination.split and OF_SPLIT.fullmatch(name)):
            continue
        yield from HANDLERS[check](name, facts)


def takes_writes(examination: Examination) -> Results:
    """keyhub.H036: sessions begin read-only, whatever says so; on a standby, every one is.

    transaction_read_only does not tell: the examination's own transaction is read-only.
    """
    ((standby, read_only),) = examination.rows(
        "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean"
    )
    if standby:
        yield Finding(
            "keyhub.H036", Severity.CRITICAL, "this server", "the server is a standby: it takes no writes",
            "point DATABASE_URL at the primary, or name all servers and target_session_attrs=read-write in it",
        )  # fmt: skip
    elif read_only:
        yield Finding(
            "keyhub.H036", Severity.CRITICAL, "default_transaction_read_only",
            "sessions begin read-only: the database takes no writes",
            "-- Look in pg_settings and pg_db_role_setting for who sets it.\n"
            "ALTER SYSTEM RESET default_transaction_read_only;\nSELECT pg_reload_conf();",
        )  # fmt: skip


def _read_fresh_sequences(examination: Examination, rows: list[tuple[str, str, Facts]]) -> None:
    """Fill in where sequences stand that gave no number since they were set: the server's functions do not tell."""
    fresh = {
        name: facts
        for check, name, facts in rows
        if check == "sequence" and facts["readable"] and facts["last"] is None
    }
    if fresh:
        query = " UNION ALL ".join(f"SELECT {place}, last_value FROM {name}" for place, name in enumerate(fresh))
        for place, last in examination.rows(query):
            list(fresh.values())[place]["last"] = last


def duration(seconds: int | float | None) -> str:
    seconds = int(seconds or 0)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def size(count: int | float | None) -> str:
    return f"{(count or 0) / GB:.1f} GB" if (count or 0) >= GB else f"{(count or 0) / MB:.0f} MB"


def _terminate(pid: int) -> str:
    return f"SELECT pg_terminate_backend({pid});"


def _sequence(name: str, facts: Facts) -> Results:
    if not facts["readable"]:
        yield Unreadable("keyhub.H020", name, is_sequence=True)
        return
    used = 100 * facts["last"] / facts["end"]
    if used >= SEQUENCE_WARNING_PERCENT and not facts["cycles"]:
        severity = Severity.CRITICAL if used >= SEQUENCE_CRITICAL_PERCENT else Severity.WARNING
        yield Finding(
            "keyhub.H020", severity, name,
            f"{used:.0f} % of the sequence are used up; at its end every INSERT into {facts['column']} fails",
            f"a migration that makes {facts['column']} a bigint",
        )  # fmt: skip


def _transaction_ids(name: str, facts: Facts) -> Results:
    if facts["age"] >= IDS_WARNING:
        yield Finding(
            "keyhub.H021", Severity.CRITICAL if facts["age"] >= IDS_CRITICAL else Severity.WARNING, name,
            f"the oldest {facts['kind']} id is {facts['age']} old; near 2147483648 the server takes no writes any more",
            "-- In that database, after ending its oldest transactions:\nVACUUM (FREEZE, SKIP_LOCKED);",
        )  # fmt: skip


def _long_transaction(name: str, facts: Facts) -> Results:
    yield Finding(
        "keyhub.H022", Severity.WARNING, name,
        f"its transaction has been open for {duration(facts['seconds'])} ({facts['state']}): vacuum and migrations "
        "wait for it",
        _terminate(facts["pid"]),
    )  # fmt: skip


def _prepared(name: str, facts: Facts) -> Results:
    yield Finding(
        "keyhub.H022", Severity.WARNING, name,
        f"prepared by {facts['owner']} {duration(facts['seconds'])} ago and never ended: it keeps its locks for ever",
        f"ROLLBACK PREPARED {name};",
    )  # fmt: skip


def _idle(name: str, facts: Facts) -> Results:
    yield Finding(
        "keyhub.H023", Severity.WARNING, name,
        f"idle in a transaction for {duration(facts['seconds'])}: it keeps its locks and does nothing",
        _terminate(facts["pid"]),
    )  # fmt: skip


def _blocked(name: str, facts: Facts) -> Results:
    blockers = facts["by"] or []
    by = (
        ", ".join(blocker["name"] or f"pid {blocker['pid']}" for blocker in blockers) or "a session that has just ended"
    )
    yield Finding(
        "keyhub.H024", Severity.WARNING, name,
        f"waiting for a lock for {duration(facts['seconds'])}, held by {by}",
        "\n".join(_terminate(blocker["pid"]) for blocker in blockers) or "nothing: it goes on by itself",
    )  # fmt: skip


def _lag(name: str, facts: Facts) -> Results:
    behind = (
        f"{duration(facts['seconds'])} and {size(facts['bytes'])}" if "bytes" in facts else duration(facts["seconds"])
    )
    yield Finding(
        "keyhub.H025", Severity.WARNING, name, f"the standby is {behind} behind",
        "look at the standby's log, its disk and the network between the two",
    )  # fmt: skip


def _slot(name: str, facts: Facts) -> Results:
    if facts["status"] == "lost":
        problem = "the slot is lost: its consumer can never go on from it"
    else:
        problem = f"the slot holds {size(facts['bytes'])} of WAL back" + (
            "" if facts["active"] else ", and nobody reads it"
        )
    severity = (
        Severity.WARNING if facts["status"] in ("reserved", "extended") and facts["active"] else Severity.CRITICAL
    )
    yield Finding(
        "keyhub.H026", severity, name, problem,
        f"start its consumer again, or, if that is gone for good:\n"
        f"SELECT pg_drop_replication_slot('{name}');",
    )  # fmt: skip


def _checksum_failures(name: str, facts: Facts) -> Results:
    yield Finding(
        "keyhub.H027", Severity.CRITICAL, name,
        f"{facts['failures']} pages did not have their checksum, the last at {facts['last']}: the storage is failing",
        "fail over to a standby, or restore a backup on another disk; pg_amcheck tells what is damaged",
    )  # fmt: skip


def _setting(name: str, facts: Facts) -> Results:
    if name == "data_checksums":
        yield Finding(
            "keyhub.H028", Severity.NOTICE, name, "there are no checksums: a failing disk is not noticed", CHECKSUMS_OFF
        )
        return
    severity, danger, right = DANGERS[name]
    yield Finding(
        "keyhub.H028", severity, name, f"{name} is {facts['value']}: {danger}",
        f"ALTER SYSTEM SET {name} = {right};\nSELECT pg_reload_conf();",
    )  # fmt: skip


def _role_setting(name: str, facts: Facts) -> Results:
    of = facts["of"]
    sql = f"ALTER {of} RESET {name};"
    if " IN DATABASE " in of:
        role, _, database = of.partition(" IN DATABASE ")
        sql = f"ALTER {role} IN DATABASE {database} RESET {name};"
    yield Finding(
        "keyhub.H028", Severity.WARNING if name == "search_path" else Severity.CRITICAL, name,
        f"every session of {of or 'this server'} begins with {name} = {facts['value']}", sql,
    )  # fmt: skip


def _vacuum(name: str, facts: Facts) -> Results:
    yield Finding(
        "keyhub.H029", Severity.WARNING, name,
        f"{facts['dead']} dead rows beside {facts['live']} live ones, last vacuumed {facts['last'] or 'never'}",
        f"VACUUM (ANALYZE) {name};",
    )  # fmt: skip


def _duplicate_index(name: str, facts: Facts) -> Results:
    yield Finding(
        "keyhub.H030", Severity.WARNING, name, f"the index is the same as {facts['first']}: every write keeps both",
        f"DROP INDEX CONCURRENTLY {name};",
    )  # fmt: skip


def _unused_index(name: str, facts: Facts) -> Results:
    yield Finding(
        "keyhub.H031", Severity.NOTICE, name,
        f"no query has used this index of {facts['table']} for {LIMITS['unused_days']} days ({size(facts['bytes'])})",
        "a migration that drops it, if no standby's queries use it either",
    )  # fmt: skip


def _foreign_key(name: str, facts: Facts) -> Results:
    table = facts["table"]
    yield Finding(
        "keyhub.H032", Severity.WARNING, name,
        f"no index begins with {facts['columns']}: each delete of a row that is referred to scans {table}",
        f"CREATE INDEX CONCURRENTLY ON {table} ({facts['columns']});",
    )  # fmt: skip


def _bloat(name: str, facts: Facts) -> Results:
    if facts["least"] is None:
        if not facts["readable"]:
            yield Unreadable("keyhub.H033", name)
        return
    yield Finding(
        "keyhub.H033", Severity.NOTICE, name,
        f"takes {size(facts['bytes'])}, of which its rows need about {size(facts['least'])} (an estimate)",
        f"pg_repack, or in a quiet hour (it holds ACCESS EXCLUSIVE):\nVACUUM (FULL, ANALYZE) {name};",
    )  # fmt: skip


def _extension_version(name: str, facts: Facts) -> Results:
    yield Finding(
        "keyhub.H034", Severity.WARNING, name,
        f"the extension is at version {facts['installed']}, and the server brings {facts['default']}",
        f"ALTER EXTENSION {name} UPDATE;",
    )  # fmt: skip


def _collation_version(name: str, facts: Facts) -> Results:
    what = facts["kind"].upper()
    yield Finding(
        "keyhub.H035", Severity.CRITICAL, name,
        f"its indexes were built by version {facts['recorded']} of the collation, the system has {facts['actual']}: "
        "they may not find rows, nor keep duplicates out",
        (f"REINDEX DATABASE CONCURRENTLY {name};\n" if what == "DATABASE" else "-- REINDEX what uses it, then:\n")
        + f"ALTER {what} {name} REFRESH {'COLLATION ' if what == 'DATABASE' else ''}VERSION;",
    )  # fmt: skip


HANDLERS: dict[str, Callable[[str, Facts], Results]] = {
    "sequence": _sequence,
    "transaction ids": _transaction_ids,
    "long transaction": _long_transaction,
    "prepared transaction": _prepared,
    "idle in transaction": _idle,
    "blocked": _blocked,
    "replication lag": _lag,
    "replay lag": _lag,
    "slot": _slot,
    "checksum failures": _checksum_failures,
    "setting": _setting,
    "role setting": _role_setting,
    "vacuum": _vacuum,
    "duplicate index": _duplicate_index,
    "unused index": _unused_index,
    "foreign key without index": _foreign_key,
    "bloat": _bloat,
    "extension version": _extension_version,
    "collation version": _collation_version,
}
