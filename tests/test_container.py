"""Dockerfile, .dockerignore and compose.yaml: what they name exists, what they need is there, no secret is in them.

There is no Docker where tests run; tests/test_serve.py serves from a folder that holds what the image would.
"""

import json
import re
import runpy
import shutil
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands

from keyhub.checks import OLDEST_SERVER
from tests.conftest import APPS, REPOSITORY

pytestmark = pytest.mark.once

DOCKERFILE = REPOSITORY / "Dockerfile"


def instructions(word: str) -> list[str]:
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return [line.removeprefix(word).strip() for line in text.splitlines() if line.startswith(f"{word} ")]


def copied() -> list[str]:
    """What is copied from the checkout, not from another stage."""
    lines = [line.split() for line in instructions("COPY") if not line.startswith("--from=")]
    return [source for *sources, _ in lines for source in sources]


def copy_as_the_image_has_it(folder: Path) -> None:
    """For a test that serves from it."""
    folder.mkdir()
    for name in copied():
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, folder)


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((REPOSITORY / "compose.yaml").read_text())


def test_the_image_holds_the_code_and_production_packages_alone():
    assert [name for name in copied() if not (REPOSITORY / name).exists()] == []
    apps = {path.name for path in APPS}
    assert set(copied()) == {"manage.py", "gunicorn.conf.py", "requirements-production.lock", *apps}
    assert "--require-hashes" in DOCKERFILE.read_text()


def test_the_build_gets_what_is_copied_and_nothing_else():
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert sorted(rule.removeprefix("!") for rule in rules if rule.startswith("!")) == sorted(copied())


def test_the_image_is_served_by_nobody_special():
    assert instructions("FROM")[-1] == "python:3.13-slim"
    assert instructions("USER") == ["keyhub"]
    assert (instructions("STOPSIGNAL"), json.loads(instructions("CMD")[-1])[0]) == (["SIGTERM"], "gunicorn")
    (check,) = instructions("HEALTHCHECK")
    assert "http://127.0.0.1:8000/healthz" in check
    compile(json.loads(check.partition("CMD ")[2])[2], "HEALTHCHECK", "exec")


def test_no_secret_is_in_the_files():
    text = (REPOSITORY / "compose.yaml").read_text()
    for name in ("POSTGRES_PASSWORD", "SECRET_KEY", "ALLOWED_HOSTS"):
        values = re.findall(rf"\$\{{{name}([^}}]*)\}}", text)
        assert values
        assert all(value.startswith(":?Set it to ") for value in values)
    assert instructions("ARG") == []
    assert not [line for line in instructions("ENV") if "SECRET" in line or "PASSWORD" in line]


def test_the_site_starts_on_a_migrated_database(compose):
    services = compose["services"]
    assert services["migrate"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert services["web"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    commands = re.findall(r"manage\.py (\w+)", services["migrate"]["command"][-1])
    assert commands == ["migrate", "auditpartitions", "dbhealth"]
    assert set(commands) <= set(get_commands())


def test_the_services_keep_to_themselves(compose):
    services = compose["services"]
    for name in ("migrate", "web"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    assert "ports" not in services["database"]
    assert services["web"]["ports"] == ["127.0.0.1:8000:8000"]
    assert services["web"]["environment"]["BEHIND_TLS_PROXY"] == "on"
    image, _, major = services["database"]["image"].partition(":")
    assert (image, int(major) >= OLDEST_SERVER[0]) == ("postgres", True)
    volumes = {volume.split(":")[0] for volume in services["database"]["volumes"]}
    assert volumes == set(compose["volumes"])


def test_nobody_is_killed_in_the_middle_of_a_request(compose, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: True)  # collected static files
    graceful_s = runpy.run_path(str(REPOSITORY / "gunicorn.conf.py"))["graceful_timeout"]
    assert int(compose["services"]["web"]["stop_grace_period"].removesuffix("s")) > graceful_s


def test_every_variable_is_one_that_the_settings_read(compose):
    text = (REPOSITORY / ".env.example").read_text()
    assert [name for name in compose["services"]["web"]["environment"] if f"{name}=" not in text] == []
