"""Where backups and archives are kept: a folder or an object store, named by a URL, through obstore.

    file:///folder, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix

Credentials and endpoints come from the variables that each store's own tools read, such as AWS_ENDPOINT_URL.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

SCHEMES = ("file", "s3", "gs", "az")
FORMS = "file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
PART_BYTES = 8 * 1024**2  # S3 takes 10,000 parts of at least 5 MiB: this is up to 80 GB
PARTS_AT_ONCE = 4
CHUNK_BYTES = 1024**2
CONNECT_TIMEOUT = timedelta(seconds=5)
# A request that hangs is given up, then tried again for at most this long.
REQUEST_TIMEOUT = timedelta(seconds=60)
RETRY_TIMEOUT = timedelta(seconds=30)
RETRIES = 4
S3_ERROR = re.compile(r"<Code>([^<]*)</Code>(?:\s*<Message>([^<]*)</Message>)?")


class StoreError(Exception):
    """A store cannot be used, or does not give or take something; the text tells people what, why, and what to do."""


@dataclass(frozen=True)
class StoredObject:
    """An object of a store: its path below the store's URL, its size, and the tag of these very bytes, where there is
    one."""

    path: str
    size_bytes: int
    last_modified: datetime
    tag: str | None


class Store:
    """The objects below one URL."""

    def __init__(self, url: str):
        """Raises StoreError where the URL names no store; nothing is asked of the store yet."""
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or (parts.scheme == "file") != (not parts.netloc) or parts.password:
            raise StoreError(f"{_without_secret(url)!r} names no store. Write {FORMS}.")
        self.url = url.rstrip("/")
        self.folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        if self.folder is None:
            options = {
                # Plain HTTP where the endpoint says so, as AWS_ENDPOINT_URL of a server in one's own network may.
                "client_options": {"allow_http": True, "connect_timeout": CONNECT_TIMEOUT, "timeout": REQUEST_TIMEOUT},
                "retry_config": {"max_retries": RETRIES, "retry_timeout": RETRY_TIMEOUT},
            }
            with self._one_sentence("cannot be used"):
                self._remote = from_url(url, **options)

    @property
    def _store(self):
        # A folder need not exist before something is written into it.
        return from_url(self.folder.as_uri()) if self.folder else self._remote

    def put(self, path: str, content: bytes) -> None:
        """Write a small object whole, in place of one that may be there."""
        with self._one_sentence(f"did not take {path}"), self._private():
            obstore.put(self._store, path, content, use_multipart=False)
        self._sync(path)

    @contextlib.contextmanager
    def writer(self, path: str) -> Iterator["Writer"]:
        """A stream into a new object, which is there when the block ends, and is not where it ends by an error."""
        with self._private():
            with self._one_sentence(f"did not take {path}"):
                writer = obstore.open_writer(self._store, path, buffer_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
            try:
                yield Writer(self, writer, path)
            except BaseException:
                with contextlib.suppress(BaseError, OSError):  # what is under way is given up
                    writer.__exit__(*sys.exc_info())
                raise
            with self._one_sentence(f"did not take {path}"):
                writer.close()
        self._sync(path)

    def read(self, path: str) -> bytes:
        """A small object whole. Raises FileNotFoundError where it is not there."""
        with self._one_sentence(f"did not give {path}"):
            return bytes(obstore.get(self._store, path).bytes())

    def chunks(self, path: str, tag: str | None = None) -> Iterator[bytes]:
        """The bytes of an object, about a megabyte at a time; with a tag, of those very bytes or not at all."""
        with self._one_sentence(f"did not give {path}"):
            result = obstore.get(self._store, path, options={"if_match": tag} if tag else None)
            for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    def head(self, path: str) -> StoredObject:
        """Raises FileNotFoundError where it is not there."""
        with self._one_sentence(f"did not tell of {path}"):
            return _stored_object(obstore.head(self._store, path))

    def list(self, prefix: str) -> list[StoredObject]:
        """The objects whose path begins with these folders; none where there is no such folder."""
        with self._one_sentence("cannot be listed"):
            if self.folder:  # obstore does not show what a killed upload leaves behind
                paths = [path for path in (self.folder / prefix).rglob("*") if path.is_file()]
                return [_stored_file(path, self.folder) for path in paths]
            return [_stored_object(item) for page in obstore.list(self._store, prefix) for item in page]

    def delete(self, path: str) -> None:
        """Remove an object; that there is none is no error."""
        with self._one_sentence(f"did not let go of {path}"), contextlib.suppress(FileNotFoundError):
            if self.folder is None:
                obstore.delete(self._store, path)
                return
            (self.folder / path).unlink()
        with contextlib.suppress(OSError):  # its folder, when it is empty
            (self.folder / path).parent.rmdir()

    @contextlib.contextmanager
    def _private(self) -> Iterator[None]:
        """Folders of mode 700 and files of mode 600 for what is written meanwhile."""
        before = os.umask(0o077)
        try:
            if self.folder:
                try:
                    self.folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise StoreError(f"the folder {self.folder} cannot be made: {error.strerror}.") from error
            yield
        finally:
            os.umask(before)

    def _sync(self, path: str) -> None:
        """Bring a file, and the folders that name it, to the disk: what a power cut takes was not kept."""
        if self.folder is None:
            return
        file = self.folder / path
        for place in (file, *file.relative_to(self.folder).parents):
            descriptor = os.open(self.folder / place, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _one_sentence(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if self.folder is None and "NoSuchBucket" in str(error):
                raise StoreError(f"{self.url} {what}: there is no such bucket. Correct the URL.") from error
            raise
        except (BaseError, OSError, ValueError) as error:
            raise StoreError(f"{self.url} {what}: {_reason(error)}") from error


@dataclass
class Writer:
    """The writing end of one new object."""

    store: Store
    stream: object
    path: str

    def write(self, content: bytes) -> None:
        with self.store._one_sentence(f"did not take {self.path}"):
            self.stream.write(content)


def _stored_object(meta: dict) -> StoredObject:
    return StoredObject(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"])


def _stored_file(path: Path, folder: Path) -> StoredObject:
    status = path.stat()
    changed = datetime.fromtimestamp(status.st_mtime, UTC)
    return StoredObject(str(path.relative_to(folder)), status.st_size, changed, None)


def _reason(error: Exception) -> str:
    """What a store said, without the many lines in which obstore repeats it for its developers."""
    text = str(error)
    if match := S3_ERROR.search(text):
        return ": ".join(part.rstrip(".") for part in match.groups() if part) + "."
    words = " ".join(text.partition("Debug source")[0].split())
    return words.rstrip(".") + "."


def _without_secret(url: str) -> str:
    return re.sub(r"(://[^/:@]*):[^/@]*@", r"\1:…@", url)
