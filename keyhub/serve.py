"""`make serve`: the site on a laptop as production runs it, by gunicorn and over HTTPS.

Nothing is weakened for it: DEBUG is off, plain HTTP is not spoken, cookies are secure. What production gets from
elsewhere is made once and kept in the folder .serve of the checkout, for its owner alone:

    .serve/secret-key       SECRET_KEY, unless the environment or .env has one
    .serve/certificate.pem  for 127.0.0.1, signed by itself: browsers warn of it once
    .serve/key.pem          the certificate's key
"""

import argparse
import ipaddress
import os
import secrets
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import environ

BASE_DIR = Path(__file__).resolve().parent.parent
# By address alone: the Strict-Transport-Security of a name would hold for all of its ports, runserver's too, and that
# of an address is ignored (RFC 6797, 8.1.1).
ADDRESS = "127.0.0.1"
PORT = 8443
CERTIFICATE_DAYS = 365


def serve(folder: Path, port: int) -> None:
    """Prepare everything and become gunicorn. Exits with one sentence where that cannot be."""
    _refuse_taken_port(port)
    folder.mkdir(mode=0o700, exist_ok=True)
    certificate, key = certificate_in(folder)
    environment = production_environment(folder)
    # The sentences are manage.py's.
    for command in (
        ["check", "--deploy", "--database", "default", "--fail-level", "WARNING", "--verbosity", "0"],
        ["collectstatic", "--no-input", "--verbosity", "0"],
    ):
        result = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=BASE_DIR,
            env=environment,
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if result.returncode:
            sys.exit(result.returncode)
    print(  # noqa: T201
        f"The site, as in production: https://{ADDRESS}:{port}/admin/\n"
        "The browser will warn of the certificate, which this machine has signed itself. Ctrl-C ends it.",
        flush=True,
    )
    os.chdir(BASE_DIR)
    gunicorn = [sys.executable, "-m", "gunicorn", "--bind", f"{ADDRESS}:{port}"]
    os.execve(sys.executable, [*gunicorn, "--certfile", str(certificate), "--keyfile", str(key)], environment)  # noqa: S606


def production_environment(folder: Path) -> dict[str, str]:
    """The environment, and .env beside it, with what production must say and a laptop does not."""
    if (BASE_DIR / ".env").is_file():
        environ.Env.read_env(BASE_DIR / ".env")
    defaults = {"DATABASE_URL": f"embedded://{quote(bytes(BASE_DIR / '.postgres'))}", "SECRET_KEY": ""}
    given = {name: value for name, value in os.environ.items() if value or name not in defaults}
    environment = {**defaults, **given, "DEBUG": "off", "ALLOWED_HOSTS": ADDRESS, "BEHIND_TLS_PROXY": "off"}
    environment["SECRET_KEY"] = environment["SECRET_KEY"] or secret_key_in(folder)
    return environment


def secret_key_in(folder: Path) -> str:
    """Return the key that was made here once."""
    path = folder / "secret-key"
    if not path.exists():
        _write(path, secrets.token_urlsafe(50).encode())
    return path.read_text(encoding="ascii")


def certificate_in(folder: Path) -> tuple[Path, Path]:
    """Return the files of a certificate and its key; make them where they are missing, or the year is over."""
    # A development package: production has its certificates from elsewhere.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    now = datetime.now(UTC)
    if certificate_path.exists() and key_path.exists():
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        if certificate.not_valid_after_utc > now + timedelta(days=1):
            return certificate_path, key_path
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "KeyHub on this machine")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ADDRESS))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(key_path, private)
    _write(certificate_path, certificate.public_bytes(pem))
    return certificate_path, key_path


def _write(path: Path, content: bytes) -> None:
    """Aside, for the owner alone, then under its name: a half file would count as made."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    part.rename(path)


def _refuse_taken_port(port: int) -> None:
    """gunicorn would try five times, and say so each time."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((ADDRESS, port))
        except OSError as error:
            sys.exit(
                f"keyhub: port {port} of {ADDRESS} cannot be had ({error.strerror}). End what holds it, or choose "
                f"another: make serve PORT={port + 1}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m keyhub.serve", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=PORT)
    try:
        serve(BASE_DIR / ".serve", parser.parse_args().port)
    except KeyboardInterrupt:
        sys.exit(130)
