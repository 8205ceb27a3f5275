"""Encryption to public keys in the age format (https://age-encryption.org/v1), so that the host that makes backups
cannot read them.

BACKUP_RECIPIENTS names the public keys; BACKUP_IDENTITY_FILE the private one, where backups are restored or proved.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyrage
from django.conf import settings

from keyhub.dbbackup.errors import BackupError

SUFFIX = ".age"


class Encryption:
    """The public keys of BACKUP_RECIPIENTS. Raises BackupError where one is none."""

    def __init__(self, recipients: list[str]):
        self.names = recipients
        self._recipients = [_recipient(name) for name in recipients]

    def encrypt(self, content: bytes) -> bytes:
        return pyrage.encrypt(content, self._recipients)

    def encrypt_stream(self, source, sink) -> None:
        """Encrypt what `source.read(n)` gives into `sink.write(bytes)`, in constant memory; errors of both come out."""
        _through(pyrage.encrypt_io, source, sink, self._recipients)


class Decryption:
    """The private keys of a file. Raises BackupError where it cannot be read."""

    def __init__(self, path: Path | None):
        if path is None:
            raise BackupError(
                "the backup is encrypted, and BACKUP_IDENTITY_FILE is not set. Set it to the file of the private key "
                "(AGE-SECRET-KEY-1… or an OpenSSH key)."
            )
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise BackupError(f"BACKUP_IDENTITY_FILE, {path}, cannot be read: {reason}.") from error
        self._identities = _identities(text, path)

    def decrypt(self, content: bytes) -> bytes:
        try:
            return pyrage.decrypt(content, self._identities)
        except (pyrage.DecryptError, OSError) as error:
            raise _refusal(error) from error

    def decrypt_stream(self, source, sink) -> None:
        """Decrypt what `source.read(n)` gives into `sink.write(bytes)`; BackupError where the key is wrong."""
        try:
            _through(pyrage.decrypt_io, source, sink, self._identities)
        except (pyrage.DecryptError, OSError) as error:
            raise _refusal(error) from error


def encryption() -> Encryption | None:
    """That of the settings; None where backups are not encrypted."""
    return Encryption(settings.BACKUP_RECIPIENTS) if settings.BACKUP_RECIPIENTS else None


def decryption() -> Decryption:
    return Decryption(settings.BACKUP_IDENTITY_FILE)


def _recipient(name: str):
    for kind in (pyrage.x25519.Recipient, pyrage.ssh.Recipient):
        try:
            return kind.from_str(name)
        except pyrage.RecipientError:
            continue
    raise BackupError(
        f"BACKUP_RECIPIENTS holds {name!r}, which is no public key of age. Write age1… or ssh-ed25519 …, "
        "separated by commas."
    )


def _identities(text: str, path: Path) -> list:
    if "OPENSSH PRIVATE KEY" in text:
        lines = [text]
        parse = lambda text: pyrage.ssh.Identity.from_buffer(text.encode())  # noqa: E731
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        parse = pyrage.x25519.Identity.from_str
    try:
        identities = [parse(line) for line in lines]
    except pyrage.IdentityError:
        identities = []
    if not identities:
        raise BackupError(f"BACKUP_IDENTITY_FILE, {path}, holds no private key of age. Make one with age-keygen.")
    return identities


def _refusal(error: Exception) -> BackupError:
    if "No matching keys" in str(error):
        return BackupError(
            "the backup is encrypted to other keys than that of BACKUP_IDENTITY_FILE. Set it to the file of the "
            "right private key."
        )
    return BackupError(f"the backup cannot be decrypted: {error}. Take another backup.")


def _through(transform: Callable, source, sink, keys: list) -> None:
    """Run one of pyrage's streams; an exception of the source or the sink comes out as itself, and not as words."""
    raised: list[BaseException] = []

    def guarded(call: Callable) -> Callable:
        def guard(*arguments):
            try:
                return call(*arguments)
            except BaseException as error:
                raised.append(error)
                raise

        return guard

    def write(content: bytes) -> int:
        sink.write(content)
        return len(content)

    reader = SimpleNamespace(read=guarded(source.read))
    writer = SimpleNamespace(write=guarded(write), flush=lambda: None)
    try:
        transform(reader, writer, keys)
    except (pyrage.EncryptError, pyrage.DecryptError, OSError):
        if raised:
            raise raised[0] from None
        raise
