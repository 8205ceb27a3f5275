"""Names of people can be erased: from all rows, from months that were detached, and from archives. Seals hold.

The digest of a month's names is renewed; that of its rows, which tell who by an id, stays.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from audit import archives, seals
from audit.models import AuditArchive, AuditSeal
from audit.months import RETIRED, Month, PartitionError, existing_partitions
from audit.short_locks import only_run
from keyhub.store import Store


def erase_names(database: str, *, user_id: object, store: Store | None = None) -> int:
    """Take a person's name out of all rows; return of how many, those of archives not counted.

    A new file of names takes the old one's place in each archive that has the person's; killed in between, the next run
    takes away what is left. Raises PartitionError where the names of a sealed month are not as they were sealed,
    ArchiveError, StoreError: then nothing is erased.
    """
    connection = connections[database]
    with only_run(connection, seals.LOCK_NAME):
        changed = dict(_written_anew(database, store, str(user_id)))
        with transaction.atomic(using=database):
            erased = _erase(connection, user_id, changed)
        for archive in AuditArchive.objects.using(database).all():
            archives.sweep(archives.known(store), archive.folder, archive.names_file)
    return erased


def _written_anew(database: str, store: Store | None, user_id: str) -> Iterator[tuple[int, tuple[AuditArchive, str]]]:
    """The archives that have the person's name, each with a new file of names that has not, and its digest."""
    sealed = AuditSeal.objects.using(database).in_bulk(field_name="month")
    for archive in AuditArchive.objects.using(database).order_by("month"):
        seal = sealed[archive.month]
        with archives.names_of(archives.known(store), archive) as file:
            if archives.has_names_of(file, user_id):
                yield seal.number, archives.write_names_without(store, archive, seal, file, user_id)


def _erase(connection: BaseDatabaseWrapper, user_id: object, changed: dict[int, tuple[AuditArchive, str]]) -> int:
    """Erase the name in the tables, renew the digests of names, and let the archives refer to their new files."""
    tables = _tables_of_seals(connection)
    has_names = [number for number, table in tables.items() if _has_names_of(connection, table, user_id)]
    concerned = AuditSeal.objects.using(connection.alias).select_for_update().filter(number__in=[*has_names, *changed])
    sealed = list(concerned.order_by("number"))
    for seal in sealed:
        table = tables.get(seal.number)
        if table and seals.digests_of(connection, table).names_digest != seal.names_digest:
            raise PartitionError(
                f"the names of {seal} are not as they were sealed, so that none is erased. "
                "Run manage.py auditpartitions verify, and find out who changed them."
            )
    erased = 0
    with connection.cursor() as cursor:
        for table in ["audit_logs", *(table for table in tables.values() if table.endswith(RETIRED))]:
            cursor.execute(
                sql.SQL("UPDATE {} SET actor_label = NULL WHERE user_id = %s AND actor_label IS NOT NULL").format(
                    sql.Identifier(table)
                ),
                [user_id],
            )
            erased += cursor.rowcount
    for seal in sealed:
        archive, digest = changed.get(seal.number, (None, None))
        if seal.number in tables:
            digest = seals.digests_of(connection, tables[seal.number]).names_digest
        seals.renew_names(connection.alias, seal, digest)
        if archive:
            archive.save(using=connection.alias, update_fields=["names_file", "names_bytes", "names_sha256"])
    return erased


def _tables_of_seals(connection: BaseDatabaseWrapper) -> dict[int, str]:
    """The table of each sealed month that has one, by the number of its seal: its partition, or that it was detached
    into."""
    attached = existing_partitions(connection)
    tables = {}
    with connection.cursor() as cursor:
        for seal in AuditSeal.objects.using(connection.alias).all():
            month = Month.of(seal.month)
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [month.retired_table])
            if month in attached:
                tables[seal.number] = attached[month]
            elif cursor.fetchone()[0]:
                tables[seal.number] = month.retired_table
    return tables


def _has_names_of(connection: BaseDatabaseWrapper, table: str, user_id: object) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE user_id = %s AND actor_label IS NOT NULL)").format(
                sql.Identifier(table)
            ),
            [user_id],
        )
        return cursor.fetchone()[0]
