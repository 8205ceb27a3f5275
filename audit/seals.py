"""Closing months: a digest of what each held, chained to the one before it and signed, so that tampering is found.

A row's canonical text is a JSON array of its columns, in an order and a time zone of their own; it is the same on every
PostgreSQL from 15 to 18 and under all settings. Rows stand in the order of (created_at, id). Names (`actor_label`,
`tenant_label`) are in a digest of their own: names.py takes a person's away, and makes that one anew.

A seal is signed with SECRET_KEY, so that somebody who can write to the database alone makes none. Whoever has the key
as well can: compare with seals that were kept elsewhere (`auditpartitions verify --against`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from django.core import signing
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from audit.models import AuditArchive, AuditSeal
from audit.months import Month, existing_partitions
from audit.partition_tables import INSERT_TRIGGER
from audit.short_locks import keep_vacuums_out, only_run, until_locks_are_got

SALT = "keyhub.audit.seals"
LOCK_NAME = "keyhub.auditseals"  # so that a name is erased while auditpartitions moves rows
FIRST_PREVIOUS = "0" * 64
# A transaction that began in the month may still commit; so long none lives here, or it is refused.
REST = timedelta(days=1)
ROWS_A_STEP = 10_000
EXPORTED = ("number", "month", "rows", "digest", "previous", "signature")

TEXTS = """
    COPY (
        SELECT json_build_array(
                id, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), organization_id, tenant_id,
                user_id, action, resource_type, resource_id, outcome, details, host(ip_address), user_agent, request_id
            )::text,
            json_build_array(id, actor_label, tenant_label)::text
        FROM {partition} ORDER BY created_at, id
    ) TO STDOUT
"""


@dataclass(frozen=True)
class Digests:
    """What a month holds: the number of its rows, and the SHA-256 in hex of their texts and of their names'."""

    rows: int
    digest: str
    names_digest: str


@dataclass(frozen=True)
class Fault:
    """A seal that does not hold; `problem` is one sentence for people."""

    month: str
    problem: str


Progress = Callable[[str, int], None]


def closed_months(database: str) -> list[Month]:
    """The months that can be sealed and are not: over for a day, by the server's clock; oldest first."""
    connection = connections[database]
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp() AT TIME ZONE 'UTC'")
        this_month = Month.of(cursor.fetchone()[0] - REST)
    sealed = {Month.of(month) for month in AuditSeal.objects.using(database).values_list("month", flat=True)}
    return sorted(month for month in existing_partitions(connection) if month < this_month and month not in sealed)


def seal_months(
    database: str, advance: Progress = lambda month, rows: None, only: Month | None = None
) -> Iterator[AuditSeal]:
    """Seal the closed months, or only one; yield each seal when it is there. `advance` is told the rows that were read.

    A month is first closed for good, by a trigger that waits for those who write into it and keeps readers waiting for
    nothing. Then it is read without a lock. Killed in between, it is sealed by the next run. Raises PartitionError;
    months sealed until then stay so.
    """
    connection = connections[database]
    with only_run(connection, LOCK_NAME):
        for month in closed_months(database):
            if only not in (None, month):
                continue
            partition = existing_partitions(connection)[month]
            until_locks_are_got(
                partial(_close, connection, partition),
                f"{partition} could not be closed",
                "others write into it",
            )
            yield _seal(database, month, partition, advance)


def verify(database: str, kept: Iterable[dict] = (), advance: Progress = lambda month, rows: None) -> Iterator[Fault]:
    """Compare every sealed month with its seal, and the seals with each other and with those `kept` elsewhere.

    Months that are no longer in audit_logs because they were retired are for archives.verify().
    """
    retired = set(
        AuditArchive.objects.using(database).filter(detached_at__isnull=False).values_list("month", flat=True)
    )
    seals = list(AuditSeal.objects.using(database).order_by("number"))
    partitions = existing_partitions(connections[database])
    previous, number = FIRST_PREVIOUS, 0
    for seal in seals:
        number += 1
        yield from _faults_of_the_seal(seal, number, previous)
        previous, number = _chained(seal), seal.number
        partition = partitions.get(Month.of(seal.month))
        if partition is None:
            if seal.month not in retired:
                yield Fault(str(seal), "its partition is gone")
            continue
        found = digests_of(connections[database], partition, lambda rows, seal=seal: advance(str(seal), rows))
        yield from _faults_of_the_rows(seal, found)
    yield from _faults_of_the_kept(seals, kept)


def renew_names(database: str, seal: AuditSeal, names_digest: str) -> None:
    """Sign the digest of a month's names anew, after some were erased."""
    AuditSeal.objects.using(database).filter(pk=seal.pk).update(
        names_digest=names_digest, names_signature=_sign(seal.number, names_digest)
    )


def exported(seal: AuditSeal) -> dict:
    """A seal as it is kept elsewhere: without the names, which may be erased."""
    return {"month": str(seal), **{name: getattr(seal, name) for name in EXPORTED if name != "month"}}


def digests_of(
    connection: BaseDatabaseWrapper, partition: str, advance: Callable[[int], None] = lambda rows: None
) -> Digests:
    """Read a month as it is; `advance` is told of each ROWS_A_STEP rows."""
    rows, texts, names = 0, hashlib.sha256(), hashlib.sha256()
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        statement = sql.SQL(TEXTS).format(partition=sql.Identifier(partition))
        with connection.wrap_database_errors, cursor.copy(statement) as copy:
            for line in copy:
                text, name = bytes(line).split(b"\t")
                texts.update(text + b"\n")
                names.update(name)
                rows += 1
                if rows % ROWS_A_STEP == 0:
                    advance(ROWS_A_STEP)
    advance(rows % ROWS_A_STEP)
    return Digests(rows, texts.hexdigest(), names.hexdigest())


def _close(connection: BaseDatabaseWrapper, partition: str) -> None:
    """Let no row into a month any more."""
    statement = sql.SQL(
        "CREATE OR REPLACE TRIGGER {} BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION refuse_audit_insert()"
    ).format(sql.Identifier(INSERT_TRIGGER), sql.Identifier(partition))
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        keep_vacuums_out(cursor, connection.ops.quote_name(partition))
        cursor.execute(statement)


def _seal(database: str, month: Month, partition: str, advance: Progress) -> AuditSeal:
    digests = digests_of(connections[database], partition, lambda rows: advance(str(month), rows))
    seals = AuditSeal.objects.using(database)
    last = seals.order_by("-number").first()
    seal = AuditSeal(
        number=last.number + 1 if last else 1,
        month=month.first_day,
        previous=_chained(last) if last else FIRST_PREVIOUS,
        **dataclasses.asdict(digests),
    )
    seal.signature = _sign(_chained(seal))
    seal.names_signature = _sign(seal.number, seal.names_digest)
    seal.save(using=database, force_insert=True)
    return seal


def _chained(seal: AuditSeal) -> str:
    """The SHA-256 by which the next seal refers to this one."""
    content = [seal.number, str(seal), seal.rows, seal.digest, seal.previous]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _sign(*values: object) -> str:
    return signing.Signer(salt=SALT).signature(json.dumps(values))


def _is_signed(signature: str, *values: object) -> bool:
    try:
        signing.Signer(salt=SALT).unsign(f"{json.dumps(values)}:{signature}")
    except signing.BadSignature:
        return False
    return True


def _faults_of_the_seal(seal: AuditSeal, number: int, previous: str) -> Iterator[Fault]:
    if seal.number != number:
        yield Fault(str(seal), f"the seal before it is missing: it is number {seal.number}, and number {number} is due")
    elif seal.previous != previous:
        yield Fault(str(seal), "the seal before it was changed")
    if not _is_signed(seal.signature, _chained(seal)):
        yield Fault(str(seal), "its seal was changed, or signed with another SECRET_KEY")
    if not _is_signed(seal.names_signature, seal.number, seal.names_digest):
        yield Fault(str(seal), "the seal of its names was changed, or signed with another SECRET_KEY")


def _faults_of_the_rows(seal: AuditSeal, found: Digests) -> Iterator[Fault]:
    if found.rows != seal.rows:
        difference = found.rows - seal.rows
        what = "added" if difference > 0 else "missing"
        yield Fault(str(seal), f"{abs(difference)} row{'s' * (abs(difference) != 1)} {what}: {seal.rows} were sealed")
    elif found.digest != seal.digest:
        yield Fault(str(seal), "rows were changed")
    elif found.names_digest != seal.names_digest:
        yield Fault(str(seal), "names were changed")


def _faults_of_the_kept(seals: list[AuditSeal], kept: Iterable[dict]) -> Iterator[Fault]:
    here = {seal.number: exported(seal) for seal in seals}
    for seal in kept:
        if seal["number"] not in here:
            yield Fault(seal["month"], "its seal is gone, and was kept elsewhere")
        elif here[seal["number"]] != seal:
            yield Fault(seal["month"], "its seal is not the one that was kept elsewhere")
