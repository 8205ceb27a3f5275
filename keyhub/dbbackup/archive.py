"""The archive of a backup: what pg_dump writes, through zstd and age into a store, and the way back, in one pass each.

No plaintext and no second copy touches a disk. By hand: age -d -i KEY dump.pgc.zst.age | zstd -d | pg_restore -d NAME
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from keyhub.dbbackup.encryption import Decryption, Encryption
from keyhub.dbbackup.errors import BackupError
from keyhub.store import CHUNK_BYTES, Store

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# On what an identity hub holds (random ids) level 1 is smaller than levels 2 and 3, and the fastest.
LEVEL = 1
WORKERS = min(4, os.cpu_count() or 1)

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Written:
    """What was written: its size, its SHA-256 in hexadecimal, and the size of what went in."""

    size_bytes: int
    sha256: str
    plain_bytes: int


def write(source, store: Store, path: str, encryption: Encryption | None, progress: Progress) -> Written:
    """Stream `source.read(n)` into a new object; it is there only if the source ended well.

    Raises BackupError, and what the source raises.
    """
    compressed = _Compressed(source, progress)
    with store.writer(path) as writer:
        sink = _Hashing(writer)
        if encryption:
            encryption.encrypt_stream(_Reader(compressed), sink)
        else:
            for chunk in compressed:
                sink.write(chunk)
    return Written(sink.size_bytes, sink.digest.hexdigest(), compressed.plain_bytes)


def verify(
    store: Store, path: str, size_bytes: int, sha256: str, take: Callable[[bytes], object] = lambda chunk: None
) -> str | None:
    """Read an object whole and compare it with its digest; return its tag, by which a store gives these very bytes.

    `take` is told each chunk, before it is known whether the whole is sound.
    Raises BackupError where it is gone, or is not what was written.
    """
    digest = hashlib.sha256()
    try:
        head = store.head(path)
        if head.size_bytes == size_bytes:
            for chunk in _hashed(store.chunks(path, head.tag), digest):
                take(chunk)
    except FileNotFoundError as error:
        raise BackupError(f"{store.url} has no {path}, although its manifest names it. Take another backup.") from error
    if head.size_bytes != size_bytes:
        raise BackupError(
            f"{path} has {head.size_bytes} bytes, and {size_bytes} were written: it is damaged. Take another backup."
        )
    if digest.hexdigest() != sha256:
        raise BackupError(f"{path} is not what was written (SHA-256): it is damaged. Take another backup.")
    return head.tag


def read(store: Store, path: str, tag: str | None, sha256: str, decryption: Decryption | None, sink) -> None:
    """Stream an archive into `sink.write(bytes)`; its digest is compared once more, of the bytes that went through.

    The sink ends the stream early by raising EnoughError. Raises BackupError.
    """
    digest = hashlib.sha256()
    chunks = _hashed(store.chunks(path, tag), digest)
    decompressing = _Decompressing(sink)
    try:
        if decryption:
            decryption.decrypt_stream(_Reader(chunks), decompressing)
        else:
            for chunk in chunks:
                decompressing.write(chunk)
    except EnoughError:
        return
    except zstd.ZstdError as error:
        raise BackupError(f"{path} cannot be decompressed: {error}. Take another backup.") from error
    if not decompressing.is_whole or digest.hexdigest() != sha256:
        raise BackupError(f"{path} changed while it was read. Take another backup.")


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class EnoughError(Exception):
    """The sink of an archive has read as much of it as it wants."""


class _Compressed:
    """What a source gives, through zstd, in chunks; plain bytes are told as progress."""

    def __init__(self, source, progress: Progress):
        self._source, self._progress = source, progress
        self.plain_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        options = {
            zstd.CompressionParameter.compression_level: LEVEL,
            zstd.CompressionParameter.nb_workers: WORKERS,
            zstd.CompressionParameter.checksum_flag: 1,
        }
        compressor = zstd.ZstdCompressor(options=options)
        while plain := self._source.read(CHUNK_BYTES):
            self.plain_bytes += len(plain)
            self._progress(len(plain))
            yield compressor.compress(plain)
        yield compressor.flush()


def _hashed(chunks: Iterable[bytes], digest) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


class _Reader:
    """Chunks as a stream that is read by number of bytes."""

    def __init__(self, chunks: Iterable[bytes]):
        self._chunks = filter(None, chunks)
        self._pending = memoryview(b"")

    def read(self, size: int) -> bytes:
        if not self._pending:
            self._pending = memoryview(next(self._chunks, b""))
        content, self._pending = self._pending[:size], self._pending[size:]
        return bytes(content)


class _Hashing:
    def __init__(self, writer):
        self._writer = writer
        self.digest, self.size_bytes = hashlib.sha256(), 0

    def write(self, content: bytes) -> None:
        self.digest.update(content)
        self.size_bytes += len(content)
        self._writer.write(content)


class _Decompressing:
    def __init__(self, sink):
        self._sink = sink
        self._decompressor = zstd.ZstdDecompressor()

    @property
    def is_whole(self) -> bool:
        return self._decompressor.eof

    def write(self, content: bytes) -> None:
        plain = self._decompressor.decompress(content, CHUNK_BYTES)
        self._sink.write(plain)
        while not (self._decompressor.needs_input or self._decompressor.eof):
            self._sink.write(self._decompressor.decompress(b"", CHUNK_BYTES))
