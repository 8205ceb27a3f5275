"""Whether the tenant database has the rows that the Admin database has: keyhub.H068, with --data alone."""

from collections.abc import Iterator

import psycopg
from django.db import DEFAULT_DB_ALIAS, DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from keyhub import placement
from keyhub.dbhealth import feeds
from keyhub.dbhealth.aside import aside
from keyhub.dbhealth.examination import Examination
from keyhub.dbhealth.findings import Finding, Severity, Skipped
from keyhub.placement import ADMIN

MEND = "manage.py splitadmin --repair"
GIVE_BACK = "manage.py splitadmin --restored admin"
TAKE_OVER = "manage.py splitadmin --restored default"
READABLE = "SELECT has_table_privilege(%s, 'SELECT'), quote_ident(current_user)"
# Tables of the tenant database alone whose keys refer to one that it follows.
REFERRING = """
    SELECT quote_ident(child.relname), quote_ident(attname), has_table_privilege(child.oid, 'SELECT')
    FROM pg_constraint JOIN pg_class AS child ON child.oid = conrelid
        JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
    WHERE contype = 'f' AND confrelid = to_regclass(%s) AND relname <> ALL(%s)
    ORDER BY 1
"""

Results = Iterator[Finding | Skipped]
Rows = dict[str, int]


def copies(examination: Examination) -> Results:
    """Compare each row of the tables that the tenant database follows, and look again where there is a difference."""
    if examination.is_copy or examination.place == ADMIN or not placement.has_admin():
        return
    if examination.state is None or examination.state.home != ADMIN:
        return
    try:
        with aside(ADMIN) as home, aside(DEFAULT_DB_ALIAS) as copy:
            for table in placement.followed_tables():
                unreadable = [*_unreadable("Admin", home, table), *_unreadable("tenant", copy, table)]
                yield from unreadable or _table(home, copy, table)
    except (DatabaseError, psycopg.Error) as error:
        yield Skipped(
            "keyhub.H068", "the rows of both databases", f"they cannot be compared: {' '.join(str(error).split())}",
            "manage.py dbhealth --database admin",
        )  # fmt: skip


def _unreadable(which: str, session: BaseDatabaseWrapper, table: str) -> Results:
    with session.cursor() as cursor:
        cursor.execute(READABLE, [table])
        is_readable, role = cursor.fetchone()
    if not is_readable:
        yield Skipped(
            "keyhub.H068", table, f"the role {role} may not read it in the {which} database",
            f"-- In the {which} database:\nGRANT SELECT ON {table} TO {role};",
        )  # fmt: skip


def _table(home: BaseDatabaseWrapper, copy: BaseDatabaseWrapper, table: str) -> Results:
    from keyhub.splitadmin import digests
    from keyhub.splitadmin.procedure import to_default

    def differing() -> dict[str, tuple[int | None, int | None]]:
        return digests.differing(home.connection, copy.connection, table)

    first = differing()
    if not first:
        return
    if not feeds.has_arrived(home, to_default().name):
        yield Skipped(
            "keyhub.H068", table, "the tenant database has not all that it is told",
            "end what keyhub.H063 to H067 tell of, and look again",
        )  # fmt: skip
        return
    # A row that has changed again may be on its way again.
    stays = {id: hashes for id, hashes in differing().items() if first.get(id) == hashes}  # noqa: A001
    yield from _missing(table, [id for id, (_, here) in stays.items() if here is None])  # noqa: A001
    yield from _alone(copy, table, [id for id, (there, _) in stays.items() if there is None])  # noqa: A001
    yield from _other(table, [id for id, hashes in stays.items() if None not in hashes])  # noqa: A001


def _missing(table: str, ids: list[str]) -> Results:
    if ids:
        mend = f"{MEND}\n-- Or, where they were being deleted, in the Admin database:\n{_deletion(table, ids)}"
        yield _finding(table, ids, "in the Admin database alone, and no row of this one can refer to {}", mend)


def _alone(copy: BaseDatabaseWrapper, table: str, ids: list[str]) -> Results:
    if not ids:
        return
    referring = list(_referring(copy, table, ids))
    if referring:
        problem = f"in the tenant database alone, and {' and '.join(referring)} refer to {{}}"
        mend = f"-- Or, where they were deleted on purpose, delete what refers to them, and:\n{TAKE_OVER}"
    else:
        problem = "in the tenant database alone"
        mend = f"-- Or, where they were deleted on purpose:\n{TAKE_OVER}"
    yield _finding(table, ids, problem, f"{GIVE_BACK}\n{mend}")


def _other(table: str, ids: list[str]) -> Results:
    if ids:
        mend = f"{TAKE_OVER}\n-- Or, where the Admin database was restored from a backup:\n{GIVE_BACK}"
        yield _finding(table, ids, "not the same in both databases", mend)


def _deletion(table: str, ids: list[str]) -> str:
    listed = ", ".join("'" + id.replace("'", "''") + "'" for id in sorted(ids))  # noqa: A001
    return f"SET keyhub.writes_copies = on;\nDELETE FROM {table} WHERE id IN ({listed});"


def _referring(copy: BaseDatabaseWrapper, table: str, ids: list[str]) -> Iterator[str]:
    """How many rows of each other table refer to some rows, in words."""
    with copy.cursor() as cursor:
        cursor.execute(REFERRING, [table, list(placement.admin_tables())])
        for child, column, is_readable in cursor.fetchall():
            if not is_readable:
                yield f"maybe rows of {child}"
                continue
            cursor.execute(f"SELECT count(*) FROM {child} WHERE {column}::text = ANY(%s)", [ids])
            (count,) = cursor.fetchone()
            if count:
                yield f"{count} {'row' if count == 1 else 'rows'} of {child}"


def _finding(table: str, ids: list[str], problem: str, mend: str) -> Finding:
    from keyhub.splitadmin.digests import MOST_TOLD

    told = sorted(ids)[:MOST_TOLD]
    if len(ids) > len(told):
        told.append(f"and {len(ids) - len(told)} more")
    are, them = ("row is", "it") if len(ids) == 1 else ("rows are", "them")
    text = f"{len(ids)} {are} {problem.format(them)}: {', '.join(told)}"
    return Finding("keyhub.H068", Severity.CRITICAL, table, text, mend)
