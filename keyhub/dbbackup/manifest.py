"""The manifest of a backup, written last: what it holds, how it was made, and whether it has been restored.

    <database>/<system identifier>/<backup>/manifest.json, dump.pgc.zst[.age], roles.sql[.age]

It carries its own digest; the proof in it is signed with SECRET_KEY, so that who can write to the store
alone cannot say that a backup was restored.
"""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, unquote

from django.core import signing

from keyhub import placement
from keyhub.dbbackup.archive import sha256_of
from keyhub.dbbackup.errors import BackupError
from keyhub.dbbackup.measure import Rows
from keyhub.store import Store, StoredObject, StoreError

FORMAT = 1
FILE = "manifest.json"
SALT = "keyhub.dbbackup.proof"


@dataclass(frozen=True)
class Part:
    """One object of a backup, by its name in the backup's folder."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Proof:
    """That a backup was restored and compared: when, in how many seconds, on which PostgreSQL, with which result."""

    proved_at: datetime
    restore_s: float
    server_version: str
    tables: int
    rows: int
    unhealthy: list[str]


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself. Times are the database server's; `properties` and `tables` are of measure.py."""

    database: str
    system_identifier: str
    backup: str
    started_at: datetime
    finished_at: datetime
    server_version: str
    pg_dump_version: str
    keyhub_version: str
    schema_version: str | None
    migrations: list[str]
    catalogue_sha256: str
    unhealthy: list[str]
    properties: dict
    roles: list[str]
    tables: dict[str, Rows]
    plain_bytes: int
    recipients: list[str]
    parts: dict[str, Part]
    proof: Proof | None = None
    signature: str = field(default="", compare=False)

    @property
    def folder(self) -> str:
        return f"{folder_of(self.database, self.system_identifier)}/{self.backup}"

    @property
    def alias(self) -> str:
        """Which of the two databases it is of; both may have the same name, on a server each."""
        return placement.alias_of(name.rpartition(".")[2] for name in self.tables)

    @property
    def server_major(self) -> int:
        return int(self.server_version.split(".")[0])

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts.values())

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())

    @property
    def is_proved(self) -> bool:
        """Whether it was restored with success, by somebody who has this deployment's SECRET_KEY."""
        if self.proof is None:
            return False
        try:
            signing.Signer(salt=SALT).unsign(f"{self._signed_text()}:{self.signature}")
        except signing.BadSignature:
            return False
        return True

    def path(self, part: str) -> str:
        return f"{self.folder}/{self.parts[part].name}"

    def with_proof(self, proof: Proof) -> "Manifest":
        proved = dataclasses.replace(self, proof=proof)
        return dataclasses.replace(proved, signature=signing.Signer(salt=SALT).signature(proved._signed_text()))

    def _signed_text(self) -> str:
        return sha256_of(_text({**dataclasses.asdict(self), "signature": ""}))

    def content(self) -> bytes:
        """The bytes of the file."""
        document = dataclasses.asdict(self)
        return _text({"format": FORMAT, "sha256": sha256_of(_text(document)), **document})


def folder_of(database: str, system_identifier: str | None = None) -> str:
    """The folder of a database's backups; without an identifier, of the databases of this name of every server."""
    name = quote(database, safe="")
    return f"{name}/{system_identifier}" if system_identifier else name


def parse(content: bytes, where: str) -> Manifest:
    """Raises BackupError where these are not the bytes that were written, or were written by another KeyHub."""
    damaged = BackupError(f"{where} is not what was written: it is damaged. Take another backup.")
    try:
        document = json.loads(content)
        format_number, digest = document.pop("format"), document.pop("sha256")
    except (ValueError, AttributeError, KeyError, TypeError):
        raise damaged from None
    if format_number != FORMAT and isinstance(format_number, int):
        age = "an older" if format_number < FORMAT else "a newer"
        raise BackupError(
            f"{where} has format {format_number}, which {age} KeyHub wrote; this one reads format {FORMAT}. "
            "Restore it with that KeyHub."
        )
    if digest != sha256_of(_text(document)):
        raise damaged
    try:
        proof = document.pop("proof")
        manifest = Manifest(
            **{
                **document,
                "started_at": datetime.fromisoformat(document["started_at"]),
                "finished_at": datetime.fromisoformat(document["finished_at"]),
                "tables": {name: Rows(**rows) for name, rows in document["tables"].items()},
                "parts": {name: Part(**part) for name, part in document["parts"].items()},
                "proof": Proof(**{**proof, "proved_at": datetime.fromisoformat(proof["proved_at"])}) if proof else None,
            }
        )
    except (TypeError, ValueError, KeyError, AttributeError):
        raise damaged from None
    # Also what the digest does not see: other spaces, or a value twice.
    if manifest.content() != content:
        raise damaged
    return manifest


def read(store: Store, path: str) -> Manifest:
    """Raises BackupError where it is damaged or in another backup's place, FileNotFoundError where it is gone."""
    manifest = parse(store.read(path), path)
    if path != f"{manifest.folder}/{FILE}":
        raise BackupError(f"{path} is the manifest of {manifest.folder}, not of this backup. Put it back there.")
    return manifest


def write(store: Store, manifest: Manifest) -> None:
    store.put(f"{manifest.folder}/{FILE}", manifest.content())


@dataclass
class Folder:
    """What a store holds of one backup; without a manifest it is none, and still being made or left unfinished."""

    path: str
    objects: list[StoredObject] = field(default_factory=list)
    damage: str | None = None

    @property
    def backup(self) -> str:
        return self.path.rpartition("/")[2]

    def begun(self) -> tuple[str, datetime]:
        """When: its name tells the second; within it, its first object."""
        return self.backup[:16], min(item.last_modified for item in self.objects)

    @property
    def database(self) -> str:
        return unquote(self.path.split("/")[0])

    @property
    def system_identifier(self) -> str:
        return self.path.split("/")[1]

    @property
    def has_manifest(self) -> bool:
        return any(item.path == f"{self.path}/{FILE}" for item in self.objects)


def folders(store: Store, database: str, system_identifier: str | None = None) -> list[Folder]:
    """The backups of a database and what is left of unfinished ones, newest first; nothing that is of no backup."""
    found: dict[str, Folder] = {}
    for item in store.list(folder_of(database, system_identifier)):
        parts = item.path.split("/")
        if len(parts) == 4 and is_name(parts[2]):
            path = "/".join(parts[:3])
            found.setdefault(path, Folder(path)).objects.append(item)
    return sorted(found.values(), key=Folder.begun, reverse=True)


def is_name(text: str) -> bool:
    """Whether a text is the name of a backup: 20261124T170738Z-3fa9c1."""
    try:
        datetime.strptime(text[:16], "%Y%m%dT%H%M%SZ")
    except ValueError:
        return False
    return len(text) == 23 and text[16] == "-" and all(letter in "0123456789abcdef" for letter in text[17:])


def survey(store: Store, database: str, system_identifier: str | None = None) -> Iterator[Manifest | Folder]:
    """The backups of a database, newest first; a Folder in place of one that has no manifest, or a damaged one.

    Without an identifier, of the databases of this name of every server.
    """
    for folder in folders(store, database, system_identifier):
        try:
            yield read(store, f"{folder.path}/{FILE}") if folder.has_manifest else folder
        except FileNotFoundError:  # somebody prunes meanwhile
            continue
        except (BackupError, StoreError) as error:
            folder.damage = str(error)
            yield folder


def _text(document: dict) -> bytes:
    return (json.dumps(document, ensure_ascii=False, indent=1, default=datetime.isoformat) + "\n").encode()
