"""Whether two databases have the same rows of a table: counted, and by a digest that no order of rows changes."""

from collections.abc import Iterable
from dataclasses import dataclass

import psycopg
from psycopg import sql

# By name, since a database that was adopted has some columns in another order.
COLUMNS = """
    SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname
"""
DIGEST = "SELECT count(*), coalesce(sum(hash_record_extended({row}, 0)), 0)::text FROM {table} AS t"
ROWS = "SELECT t.id::text, hash_record_extended({row}, 0) FROM {table} AS t"
MOST_TOLD = 10


@dataclass(frozen=True)
class Difference:
    """A table whose rows differ: how many each side has, and the ids of some that differ."""

    table: str
    rows: tuple[int, int]
    ids: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.table}: {self.rows[0]} and {self.rows[1]} rows, of which differ {', '.join(self.ids)}"


def compare(one: psycopg.Connection, other: psycopg.Connection, tables: Iterable[str]) -> tuple[int, list[Difference]]:
    """Compare tables in the snapshots of two sessions; how many rows are the same, and what differs."""
    same, different = 0, []
    for table in tables:
        (rows, digest), (other_rows, other_digest) = _digest(one, table), _digest(other, table)
        if (rows, digest) == (other_rows, other_digest):
            same += rows
        else:
            ids = sorted(differing(one, other, table))[:MOST_TOLD]
            different.append(Difference(table, (rows, other_rows), tuple(ids)))
    return same, different


def _digest(session: psycopg.Connection, table: str) -> tuple[int, str]:
    return session.execute(_query(session, DIGEST, table)).fetchone()


def differing(
    one: psycopg.Connection, other: psycopg.Connection, table: str
) -> dict[str, tuple[int | None, int | None]]:
    """The rows of a table that differ, by their ids: a digest of the row on each side, None where it is not there."""
    rows = dict(one.execute(_query(one, ROWS, table)).fetchall())
    others = dict(other.execute(_query(other, ROWS, table)).fetchall())
    ids = rows.keys() | others.keys()
    return {id: (rows.get(id), others.get(id)) for id in ids if rows.get(id) != others.get(id)}  # noqa: A001


def _query(session: psycopg.Connection, query: str, table: str) -> sql.Composed:
    columns = [sql.Identifier("t", name) for (name,) in session.execute(COLUMNS, [table])]
    row = sql.SQL("ROW({})").format(sql.SQL(", ").join(columns))
    return sql.SQL(query).format(row=row, table=sql.Identifier(table))
