"""Whether a database was made by golang-migrate from the source's files, and what of them is there."""

from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper

from keyhub.adopt import source
from keyhub.adopt.catalogue import Catalogue
from keyhub.dbversion.version_list import Version
from keyhub.migrate.executor import RefusedError


@dataclass(frozen=True)
class GolangMigrate:
    """The row of schema_migrations; the number is None where the table is empty."""

    number: str | None
    is_dirty: bool


def recognise(connection: BaseDatabaseWrapper) -> GolangMigrate | None:
    """Return where golang-migrate left the database; None where it is not its, or was adopted already."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT array_agg(attname || ' ' || format_type(atttypid, atttypmod) ORDER BY attnum) "
            "FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped "
            "WHERE pg_class.oid = to_regclass('schema_migrations') AND relkind = 'r'"
        )
        if cursor.fetchone()[0] != ["version bigint", "dirty boolean"]:
            return None
        cursor.execute("SELECT to_regclass('django_migrations') IS NOT NULL")
        if cursor.fetchone()[0]:
            cursor.execute("SELECT EXISTS (SELECT FROM django_migrations)")
            if cursor.fetchone()[0]:
                return None
        cursor.execute("SELECT version::text, dirty FROM schema_migrations LIMIT 1")
        row = cursor.fetchone()
    return GolangMigrate(*row) if row else GolangMigrate(None, False)


def refusal_without_adoption(connection: BaseDatabaseWrapper) -> str | None:
    """One sentence for people, where a plain migrate must not go on; None where it may."""
    found = recognise(connection)
    if found is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(to_regclass(name)) FROM unnest(%s::text[]) AS name", [source.ALL_TABLES])
        if not cursor.fetchone()[0]:
            return None
    return (
        f"the database was made by golang-migrate (schema_migrations: version {found.number}"
        f"{', dirty' if found.is_dirty else ''}). Run migrate --adopt, which takes its tables over."
    )


def versions_there(found: GolangMigrate, live: Catalogue, versions: list[Version]) -> list[Version]:
    """The versions to adopt, the first ones of the list.

    Of a dirty version the catalogue decides: it is there if one of its tables is. The seed makes no table, and does no
    harm when it runs again, so a dirty one is left to migrate. Raises RefusedError, with all that contradicts.
    """
    if found.number is not None and found.number not in source.TABLES:
        raise RefusedError(
            f"schema_migrations says version {found.number}, which none of the source's files has "
            f"({', '.join(source.TABLES)}). Bring the database to one of these with its own tool first."
        )
    numbers = [number for number in source.TABLES if found.number is not None and number <= found.number]
    if found.is_dirty and numbers and not any(table in live.tables for table in source.TABLES[numbers[-1]]):
        numbers.pop()
    complete = numbers[:-1] if found.is_dirty and numbers and numbers[-1] == found.number else numbers
    refusals = [
        f"{table}: the table is missing, although schema_migrations says that version {number} is there. "
        "Restore it from a backup."
        for number in complete
        for table in source.TABLES[number]
        if table not in live.tables
    ]
    refusals += [
        f"{table}: there is a table (or view) of this name, although schema_migrations says that version {number} has "
        "not been run. Rename it."
        for number, tables in source.TABLES.items()
        for table in tables
        if number not in numbers and table in live.tables
    ]
    if refusals:
        raise RefusedError("\n".join(refusals))
    return [version for version in versions if version.number in numbers]
