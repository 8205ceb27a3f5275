"""The operators' site in a browser: Chromium, a server, and the scene in a database of its own for each test.

A page error, an error in the console or a violation of the Content-Security-Policy fails the test in which it comes.
"""

import copy
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.cache import cache
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.test import Client
from django.test.testcases import LiveServerThread
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from accounts.models import Operator
from tests.conftest import _connected_to, _temporary_database, create_database
from tests.site import scene as scenes
from tests.site.scene import Scene

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",  # of no use to root, as whom containers run
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 20_000
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 375, "height": 812}


def runs(program: str) -> bool:
    """Whether it is a browser: Ubuntu's chromium is a stub that asks for snap."""
    return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0


@contextmanager
def running_chromium(program: str) -> Iterator[Browser]:
    with sync_playwright() as playwright, pytest.MonkeyPatch.context() as environment:
        # Playwright's loop runs in this thread, where Django then refuses to ask the database.
        environment.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "yes")
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        expect.set_options(timeout=TIMEOUT_MS)
        yield browser
        browser.close()


class Site(StaticFilesHandler):
    """Django's for development; browsers keep the files, as they do where the site runs in earnest."""

    def serve(self, request: HttpRequest) -> HttpResponseBase:
        response = super().serve(request)
        response["Cache-Control"] = "max-age=3600"
        return response


@contextmanager
def served_site() -> Iterator[str]:
    """The address at which the site answers, from threads of this process."""
    server = LiveServerThread("localhost", Site)
    server.daemon = True
    server.start()
    server.is_ready.wait()
    if server.error:
        raise server.error
    yield f"http://localhost:{server.port}"
    server.terminate()


def sign_in(context: BrowserContext, address: str, operator: Operator) -> None:
    client = Client()
    client.force_login(operator)
    value = client.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": value, "url": address}])


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    program = next(filter(runs, filter(None, map(shutil.which, PROGRAMS))), None)
    if program is None:
        pytest.skip("There is no Chromium here: `make browser` installs it on Debian, as root.")
    with running_chromium(program) as browser:
        yield browser


@pytest.fixture(scope="package")
def address() -> Iterator[str]:
    with served_site() as address:
        yield address


@pytest.fixture(scope="session")
def scene_template(server, template, worker_id, django_db_blocker) -> tuple[str, Scene]:
    """A database with the scene, to be cloned for each test, and the scene."""
    name = f"keyhub_{worker_id}_scene"
    with server.connect() as admin:
        create_database(admin, name, template)
    with django_db_blocker.unblock(), _connected_to(name):
        return name, scenes.build()


@pytest.fixture
def scene(server, worker_id, scene_template, django_db_blocker) -> Iterator[Scene]:
    """A scene that nobody has touched, in the database that the site and the test are connected to."""
    source, built = scene_template
    cache.clear()
    with (
        _temporary_database(server, worker_id, source) as name,
        django_db_blocker.unblock(),
        _connected_to(name),
    ):
        yield copy.deepcopy(built)


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What the browser complains of; a test takes out what it brings about on purpose."""
    complaints = []
    yield complaints
    assert complaints == []


@pytest.fixture
def context(chromium, address, scene, complaints) -> Iterator[BrowserContext]:
    """A browser that has not seen the site before."""
    context = chromium.new_context(base_url=address, viewport=WIDE, reduced_motion="reduce")
    context.set_default_timeout(TIMEOUT_MS)
    context.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    yield context
    context.close()


@pytest.fixture
def visitor(context) -> Page:
    """A page of somebody who has not signed in."""
    return context.new_page()


@pytest.fixture
def page(context, address, scene) -> Page:
    """A page of the operator Olivia."""
    sign_in(context, address, scene.operator)
    return context.new_page()
