"""`make serve`, and gunicorn as production runs it: real processes, sockets and signals."""

import http.client
import os
import re
import secrets
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import psutil
import psycopg
import pytest

from keyhub import serve
from tests.conftest import database_url
from tests.test_container import copy_as_the_image_has_it
from tests.test_embedded import temporary_folder, wait_for
from tests.test_make_up import copy_checkout

pytestmark = pytest.mark.once

YEARS = "max-age=315360000, public, immutable"
SECRET_KEY = "a secret key of this test, which nobody else will ever have"


@dataclass
class Response:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def cookies(self) -> dict:
        return SimpleCookie("; ".join(self.headers.get_all("Set-Cookie", []))) if self.headers else {}


@dataclass
class Site:
    """A running site; `process` is what was started, `log` all that it prints."""

    port: int
    process: subprocess.Popen
    log: Path
    certificate: Path | None = None

    def ask(self, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Response:
        if self.certificate:
            tls = ssl.create_default_context(cafile=self.certificate)
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=tls, timeout=30)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        result = Response(response.status, response.headers, response.read())
        connection.close()
        return result

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.ask("/healthz").status == 200
        except OSError:
            return False

    @property
    def master(self) -> psutil.Process:
        """gunicorn's first process."""
        started = psutil.Process(self.process.pid)
        family = [started, *started.children(recursive=True)]
        return next(process for process in family if process.children() and "gunicorn" in " ".join(process.cmdline()))

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def started(command: list, folder: Path, environment: dict[str, str], port: int, **options) -> Iterator[Site]:
    log = folder.parent / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    site = Site(port, process, log, **options)
    try:
        wait_for(site.answers)
        yield site
    finally:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            child.kill()
        process.kill()
        process.wait()


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A copy of this checkout, with nothing in it that is made."""
    with temporary_folder() as parent:
        copy_checkout(parent / "checkout")
        yield parent / "checkout"


def environment_of(url: str, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "DATABASE_URL": url, **more}


def production_environment(url: str, **more: str) -> dict[str, str]:
    return environment_of(url, DEBUG="off", SECRET_KEY=SECRET_KEY, ALLOWED_HOSTS="keyhub.example.com", **more)


def make_serve(port: int) -> list[str]:
    installed = [f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/.requirements-installed"]
    return ["make", "serve", *installed, f"PORT={port}"]


@pytest.mark.long
def test_make_serve(checkout, server, migrated_database):
    port = free_port()
    environment = environment_of(database_url(server, migrated_database))
    # As on a laptop: DEBUG is on in .env, and DATABASE_URL stands there.
    (checkout / ".env").write_text(f"DEBUG=on\nDATABASE_URL={environment.pop('DATABASE_URL')}\n")
    made = checkout / ".serve"
    with started(make_serve(port), checkout, environment, port, certificate=made / "certificate.pem") as site:
        assert site.lines()[0] == f"The site, as in production: https://127.0.0.1:{port}/admin/"
        assert sorted(path.name for path in made.iterdir()) == ["certificate.pem", "key.pem", "secret-key"]
        modes = {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()}
        assert (modes, stat.S_IMODE(made.stat().st_mode)) == ({0o600}, 0o700)

        assert (site.ask("/readyz").status, site.ask("/readyz").body) == (200, b'{"status": "ready"}')
        check_pages(site)
        check_static_files(site)
        check_refusals(site, checkout, environment)

        # As Ctrl-C in a terminal, with a connection open on which a browser has not said a word yet.
        with socket.create_connection(("127.0.0.1", port)):
            time.sleep(0.5)
            os.killpg(site.process.pid, signal.SIGINT)
            assert site.process.wait(timeout=20) == -signal.SIGINT
        assert not [line for line in site.lines() if "Traceback" in line or "ERROR" in line]
        assert "Shutting down: Master" in site.lines()[-1]
        with pytest.raises(ConnectionRefusedError):
            site.ask("/healthz")


def check_pages(site: Site) -> None:
    admin = site.ask("/admin/")
    assert (admin.status, admin.headers["Location"]) == (302, "/admin/login/?next=/admin/")
    login = site.ask("/admin/login/")
    assert login.status == 200
    assert login.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    assert ["csrf" in name and morsel["secure"] for name, morsel in login.cookies.items()] == [True]
    # DEBUG is off: no page tells of settings.
    missing = site.ask("/nowhere")
    assert (missing.status, b"DEBUG" in missing.body) == (404, False)
    assert site.ask("/admin/", Host="evil.example.com").status == 400
    assert site.ask("/healthz", Host="evil.example.com").status == 200


def check_static_files(site: Site) -> None:
    page = site.ask("/admin/login/").body.decode()
    paths = re.findall(r'(?:href|src)="(/static/[^"]+\.(?:css|js))"', page)
    assert len(paths) > 2
    for path in paths:
        assert re.search(r"\.[0-9a-f]{12}\.(css|js)$", path)
        response = site.ask(path, Accept_Encoding="gzip")
        assert (response.status, response.headers["Cache-Control"]) == (200, YEARS)
    assert "gzip" in {site.ask(path, Accept_Encoding="gzip").headers["Content-Encoding"] for path in paths}
    again = site.ask(path, If_Modified_Since=response.headers["Last-Modified"])
    assert (again.status, again.body) == (304, b"")
    assert site.ask("/static/../keyhub/settings.py").status in (400, 404)


def check_refusals(site: Site, checkout: Path, environment: dict[str, str]) -> None:
    """A second one on the same port, and plain HTTP."""
    second = subprocess.run(
        make_serve(site.port), cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr.splitlines()[0] == (
        f"keyhub: port {site.port} of 127.0.0.1 cannot be had (Address already in use). End what holds it, or choose "
        f"another: make serve PORT={site.port + 1}"
    )
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        Site(site.port, site.process, site.log).ask("/healthz")


# What is made once


def test_the_secret_key_is_made_once(tmp_path):
    assert serve.secret_key_in(tmp_path) == serve.secret_key_in(tmp_path)
    assert len(serve.secret_key_in(tmp_path)) > 50


def test_the_certificate_is_made_once_a_year(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(serve, "CERTIFICATE_DAYS", 1)
        serve.certificate_in(tmp_path)
    over = (tmp_path / "certificate.pem").read_bytes()
    certificate, _ = serve.certificate_in(tmp_path)
    made = certificate.read_bytes()
    assert made != over
    assert serve.certificate_in(tmp_path)[0].read_bytes() == made


# gunicorn as production starts it, behind a proxy that ends TLS


@pytest.fixture
def image() -> Iterator[Path]:
    """A folder with what the Dockerfile copies."""
    with temporary_folder() as parent:
        copy_as_the_image_has_it(parent / "image")
        yield parent / "image"


@contextmanager
def production(folder: Path, url: str, **more: str) -> Iterator[Site]:
    port = free_port()
    environment = production_environment(url, **more)
    if not (folder / "staticfiles").exists():
        collect = [sys.executable, "manage.py", "collectstatic", "--no-input", "--verbosity=0"]
        subprocess.run(collect, cwd=folder, env=environment, check=True)
    gunicorn = [Path(sys.prefix) / "bin" / "gunicorn", "--bind", f"127.0.0.1:{port}"]
    with started(gunicorn, folder, environment, port) as site:
        yield site


PROXIED = {"Host": "keyhub.example.com", "X_Forwarded_Proto": "https"}


def sign_in(site: Site) -> Response:
    ((cookie, token),) = (
        (name, morsel.value) for name, morsel in site.ask("/admin/login/", **PROXIED).cookies.items() if "csrf" in name
    )
    # Nobody twice: a name that fails too often is locked out.
    form = {"csrfmiddlewaretoken": token, "username": f"{secrets.token_hex(8)}@example.com", "password": "hunter2"}
    return site.ask(
        "/admin/login/", "POST", urlencode(form), **PROXIED, Cookie=f"{cookie}={token}",
        Referer="https://keyhub.example.com/admin/login/", Content_Type="application/x-www-form-urlencoded",
    )  # fmt: skip


@contextmanager
def signing_in(site: Site, client: psycopg.Connection) -> Iterator[Future[Response]]:
    """A request that waits for the table of operators, which `client` holds until the block ends."""
    with ThreadPoolExecutor(1) as thread, psycopg.connect(client.info.dsn, autocommit=True) as watcher:
        client.execute("BEGIN")
        client.execute("LOCK TABLE operators IN ACCESS EXCLUSIVE MODE")
        try:
            response = thread.submit(sign_in, site)
            waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'operators'::regclass"
            wait_for(lambda: watcher.execute(waiting).rowcount)
            yield response
        finally:
            client.execute("ROLLBACK")


@pytest.mark.long
def test_production_behind_a_proxy(image, server, migrated_database):
    with (
        server.connect(migrated_database) as client,
        production(image, database_url(server, migrated_database), BEHIND_TLS_PROXY="on") as site,
    ):
        plain = site.ask("/admin/login/", Host="keyhub.example.com")
        assert (plain.status, plain.headers["Location"]) == (301, "https://keyhub.example.com/admin/login/")
        assert site.ask("/admin/login/", **PROXIED).status == 200
        # Load balancers ask by address and plain HTTP.
        assert [site.ask(path).status for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 404]
        assert site.ask("/readyz", "HEAD").body == b""

        # Connections that the server has ended meanwhile are noticed, and made anew.
        assert sign_in(site).status == 200
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        assert client.execute(end, [migrated_database]).rowcount > 0
        assert [sign_in(site).status for _ in range(4)] == [200] * 4

        # An error is one line, traceback and all; whom a search was for is in no line.
        client.execute("ALTER TABLE operators RENAME TO gone")
        assert sign_in(site).status == 500
        client.execute("ALTER TABLE gone RENAME TO operators")
        assert site.ask("/nowhere?q=somebody@example.com", **PROXIED).status == 404
        (line,) = [line for line in site.lines() if line.startswith("ERROR")]
        assert line.startswith("ERROR django.request: Internal Server Error: /admin/login/\\nTraceback (most recent ")
        assert 'relation "operators" does not exist' in line
        logged = r'127\.0\.0\.1 - "GET /nowhere HTTP/1\.1" 404 \d+ \d+ms'
        wait_for(lambda: [line for line in site.lines() if re.fullmatch(logged, line)])  # after the answer
        assert "somebody" not in site.log.read_text()

        # A worker that is killed is replaced.
        master = site.master
        killed = master.children()[0]
        killed.kill()
        wait_for(lambda: len(master.children()) == 2 and killed.pid not in {child.pid for child in master.children()})
        assert all(site.ask("/healthz").status == 200 for _ in range(10))

        # A request under way is finished when the site is told to end.
        with signing_in(site, client) as response:
            site.process.send_signal(signal.SIGTERM)
            wait_for(lambda: "Handling signal: term" in site.lines()[-1] or "exiting" in site.lines()[-1])
            time.sleep(0.5)
            assert not response.done()
        assert response.result().status == 200
        assert site.process.wait(timeout=20) == 0
        with pytest.raises(ConnectionRefusedError):
            site.ask("/healthz")


def test_without_static_files_it_does_not_start(image, server, migrated_database):
    (image / "staticfiles").mkdir()  # and nothing in it
    url = database_url(server, migrated_database)
    with pytest.raises(AssertionError) as excinfo, production(image, url):
        pass
    assert "keyhub: the static files are not collected. Run manage.py collectstatic first." in str(excinfo.value)
