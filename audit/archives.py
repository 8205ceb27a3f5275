"""A sealed month in a store, as Parquet: written once, read back and hashed to the digests of its seal.

    <folder>/rows.parquet           what the seal's digest is of
    <folder>/names-<random>.parquet the names of the day; another one takes its place when a person's name is erased
    <folder>/seal.json              the seal, as `auditpartitions verify --format json` tells it

The texts of a row are PostgreSQL's, so that its canonical text can be made from them: seals.py. `details` is JSON.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from json.encoder import encode_basestring as json_string
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from audit.models import AuditArchive, AuditSeal
from audit.seals import Fault, Progress, exported
from keyhub.store import Store, StoreError

ROWS_A_GROUP = 50_000
CHARACTERS_A_GROUP = 50_000_000  # a bound of the memory, where details are long
ROWS_FILE, SEAL_FILE = "rows.parquet", "seal.json"
ROWS = pa.schema(
    [
        ("id", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("organization_id", pa.string()),
        ("tenant_id", pa.string()),
        ("user_id", pa.string()),
        ("action", pa.string()),
        ("resource_type", pa.string()),
        ("resource_id", pa.string()),
        ("outcome", pa.string()),
        ("details", pa.string()),
        ("ip_address", pa.string()),
        ("user_agent", pa.string()),
        ("request_id", pa.string()),
    ]
)
NAMES = pa.schema([(name, pa.string()) for name in ("id", "user_id", "actor_label", "tenant_label")])
DETAILS = ROWS.names.index("details")
# Those of ROWS, then the labels.
COLUMNS = """
    COPY (
        SELECT id, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), organization_id, tenant_id,
            user_id, action, resource_type, resource_id, outcome, details, host(ip_address), user_agent, request_id,
            actor_label, tenant_label
        FROM {partition} ORDER BY created_at, id
    ) TO STDOUT
"""


class ArchiveError(Exception):
    """A month cannot be archived, or its archive is not what was sealed; the text is one sentence for people."""


def write(
    connection: BaseDatabaseWrapper, partition: str, seal: AuditSeal, store: Store, folder: str, advance: Progress
) -> AuditArchive:
    """Write a month's files into a folder of the store, in place of those that a killed run has left there.

    Nothing is recorded yet, and nothing proved. Raises StoreError.
    """
    sweep(store, folder, None)
    names_file = _names_file()
    with (
        transaction.atomic(using=connection.alias),
        connection.cursor() as cursor,
        _parquet(store, f"{folder}/{ROWS_FILE}", ROWS, seal) as rows_file,
        _parquet(store, f"{folder}/{names_file}", NAMES, seal) as names,
    ):
        cursor.execute("SET LOCAL statement_timeout = 0")
        statement = sql.SQL(COLUMNS).format(partition=sql.Identifier(partition))
        with connection.wrap_database_errors, cursor.copy(statement) as copied:
            for group in _groups(copied.rows()):
                columns = [pa.array(column, pa.string()) for column in zip(*group, strict=True)]
                labels = columns[len(ROWS) :]
                names.write([columns[0], columns[ROWS.names.index("user_id")], *labels])
                columns[1] = columns[1].cast(pa.timestamp("us")).cast(ROWS.field(1).type)
                rows_file.write(columns[: len(ROWS)])
                advance(str(seal), len(group))
    store.put(f"{folder}/{SEAL_FILE}", json.dumps(exported(seal), indent=1).encode() + b"\n")
    return AuditArchive(
        month=seal.month, folder=folder, rows_bytes=rows_file.size, rows_sha256=rows_file.sha256,
        names_file=names_file, names_bytes=names.size, names_sha256=names.sha256,
    )  # fmt: skip


def prove(store: Store, archive: AuditArchive, seal: AuditSeal, advance: Progress) -> None:
    """Read an archive whole and hash it as its month was hashed. Raises ArchiveError where they differ, StoreError."""
    with _read(store, archive, ROWS_FILE, archive.rows_bytes, archive.rows_sha256) as file:
        count, digest = _digest(file, ROWS, _texts, lambda rows: advance(str(seal), rows))
    if (count, digest) != (seal.rows, seal.digest):
        raise ArchiveError(_differs(store, archive, ROWS_FILE, "the rows that were sealed"))
    with names_of(store, archive) as file:
        count, digest = _digest(file, NAMES, _names)
    if (count, digest) != (seal.rows, seal.names_digest):
        raise ArchiveError(_differs(store, archive, archive.names_file, "the names that were sealed"))


def verify(database: str, store: Store | None, advance: Progress) -> Iterator[Fault]:
    """Compare every archive with its seal. Raises ArchiveError where there are some, and no store is known."""
    seals = AuditSeal.objects.using(database).in_bulk(field_name="month")
    for archive in AuditArchive.objects.using(database).order_by("month"):
        try:
            prove(known(store), archive, seals[archive.month], advance)
        except (ArchiveError, StoreError) as error:
            if store is None:
                raise
            yield Fault(str(archive), str(error).rstrip("."))


def known(store: Store | None) -> Store:
    """Raises ArchiveError where it is None."""
    if store is None:
        raise ArchiveError("months are archived, and it is not said where. Set AUDIT_ARCHIVE_URL, or say it: --archive")
    return store


@contextmanager
def names_of(store: Store, archive: AuditArchive) -> Iterator[IO[bytes]]:
    """The file of an archive's names, read whole. Raises ArchiveError where it is not what was written, StoreError."""
    with _read(store, archive, archive.names_file, archive.names_bytes, archive.names_sha256) as file:
        yield file


def has_names_of(file: IO[bytes], user_id: str) -> bool:
    """Whether a person's name stands in a file of names."""
    return any(
        pc.any(pc.and_(pc.equal(batch["user_id"], user_id), pc.is_valid(batch["actor_label"]))).as_py()
        for batch in _batches(file)
    )


def write_names_without(
    store: Store, archive: AuditArchive, seal: AuditSeal, file: IO[bytes], user_id: str
) -> tuple[AuditArchive, str]:
    """Write a file of names without a person's; return the archive as it is then, unsaved, and the names' digest.

    Raises ArchiveError where the names are not those that were sealed, StoreError: then no file was written.
    """
    changed = copy(archive)
    changed.names_file = _names_file()
    before, after = hashlib.sha256(), hashlib.sha256()
    with _parquet(store, f"{archive.folder}/{changed.names_file}", NAMES, seal) as names:
        for batch in _batches(file):
            columns = [batch[name] for name in NAMES.names]
            before.update(b"".join(_names(columns)))
            is_theirs = pc.fill_null(pc.equal(batch["user_id"], user_id), False)
            columns[2] = pc.if_else(is_theirs, pa.scalar(None, pa.string()), batch["actor_label"])
            after.update(b"".join(_names(columns)))
            names.write(columns)
        if before.hexdigest() != seal.names_digest:
            raise ArchiveError(_differs(store, archive, archive.names_file, "the names that were sealed"))
    changed.names_bytes, changed.names_sha256 = names.size, names.sha256
    return changed, after.hexdigest()


def sweep(store: Store, folder: str, names_file: str | None) -> None:
    """Delete other files of names: of a killed run, or those that a name was erased from. Raises StoreError."""
    for item in store.list(folder):
        name = item.path.rpartition("/")[2]
        if name.startswith("names-") and name != names_file:
            store.delete(item.path)


def _groups(rows: Iterable[tuple[str | None, ...]]) -> Iterator[list[tuple[str | None, ...]]]:
    group, characters = [], 0
    for row in rows:
        group.append(row)
        characters += sum(map(len, filter(None, row)))
        if len(group) == ROWS_A_GROUP or characters >= CHARACTERS_A_GROUP:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _names_file() -> str:
    return f"names-{secrets.token_hex(4)}.parquet"


class _File(io.RawIOBase):
    """A file on its way into a store, hashed meanwhile, for pyarrow to write to."""

    def __init__(self, writer):
        self._writer, self._digest, self.size = writer, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, content) -> int:
        content = bytes(content)
        self._writer.write(content)
        self._digest.update(content)
        self.size += len(content)
        return len(content)

    def tell(self) -> int:
        return self.size

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class _Parquet:
    def __init__(self, file: _File, writer: pq.ParquetWriter, schema: pa.Schema):
        self._file, self._writer, self._schema = file, writer, schema

    def write(self, columns: list[pa.Array]) -> None:
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema), row_group_size=ROWS_A_GROUP)

    @property
    def size(self) -> int:
        return self._file.size

    @property
    def sha256(self) -> str:
        return self._file.sha256


@contextmanager
def _parquet(store: Store, path: str, schema: pa.Schema, seal: AuditSeal) -> Iterator[_Parquet]:
    about = {"month": str(seal), "rows": str(seal.rows), "digest": seal.digest, "names_digest": seal.names_digest}
    # Ids are all different: a dictionary of them would only be in the way.
    dictionaries = [name for name in schema.names if name != "id"]
    with store.writer(path) as writer:
        file = _File(writer)
        with pq.ParquetWriter(
            file, schema.with_metadata(about), compression="zstd", use_dictionary=dictionaries
        ) as parquet:
            yield _Parquet(file, parquet, schema)


@contextmanager
def _read(store: Store, archive: AuditArchive, name: str, size: int, sha256: str) -> Iterator[IO[bytes]]:
    path = f"{archive.folder}/{name}"
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as file:
        try:
            for chunk in store.chunks(path):
                digest.update(chunk)
                file.write(chunk)
        except FileNotFoundError as error:
            raise ArchiveError(f"{store.url} has no {path}, although the month was archived there.") from error
        if file.tell() != size or digest.hexdigest() != sha256:
            raise ArchiveError(_differs(store, archive, name, "what was written there"))
        file.seek(0)
        yield file


def _differs(store: Store, archive: AuditArchive, name: str, what: str) -> str:
    return f"{store.url}/{archive.folder}/{name} is not {what}: it was changed or is damaged."


def _batches(file: IO[bytes]) -> Iterator[pa.RecordBatch]:
    file.seek(0)
    return pq.ParquetFile(file).iter_batches(batch_size=ROWS_A_GROUP)


def _digest(
    file: IO[bytes],
    schema: pa.Schema,
    texts: Callable[[list[pa.Array]], Iterable[bytes]],
    advance: Callable[[int], None] = lambda rows: None,
) -> tuple[int, str]:
    """The number of rows, and the SHA-256 of their canonical texts in hexadecimal."""
    rows, digest = 0, hashlib.sha256()
    for batch in _batches(file):
        digest.update(b"".join(texts([batch[name] for name in schema.names])))
        rows += batch.num_rows
        advance(batch.num_rows)
    return rows, digest.hexdigest()


def _texts(columns: list[pa.Array]) -> Iterator[bytes]:
    """The canonical texts of rows, as seals.TEXTS has them from PostgreSQL."""
    columns[1] = pc.strftime(columns[1].cast(pa.timestamp("us")), format="%Y-%m-%dT%H:%M:%S")
    for row in zip(*(column.to_pylist() for column in columns), strict=True):
        values = ["null" if value is None else json_string(value) for value in row]
        values[DETAILS] = row[DETAILS] or "null"
        yield _copied(values)


def _names(columns: list[pa.Array]) -> Iterator[bytes]:
    ids, _, actors, tenants = (column.to_pylist() for column in columns)
    for row in zip(ids, actors, tenants, strict=True):
        yield _copied("null" if value is None else json_string(value) for value in row)


def _copied(values: Iterable[str]) -> bytes:
    """A JSON array as json_build_array() and COPY write it: nothing in it is special to COPY but the backslash."""
    return f"[{', '.join(values)}]\n".replace("\\", "\\\\").encode()
