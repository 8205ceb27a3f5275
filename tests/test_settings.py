"""Settings come from the environment and .env; what is missing or wrong is refused in one sentence."""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import database_url
from tests.processes import REPOSITORY, Run

PRODUCTION = {
    "DEBUG": "off",
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "keyhub.example.com",
    "DATABASE_URL": "postgres://keyhub:hunter2@127.0.0.1:1/keyhub",
    "DEMO_DATA": "",
    "LANGUAGE_CODE": "",
    "BEHIND_TLS_PROXY": "",
    "SECOND_FACTOR": "",
}
FORMS = "postgres://user:password@host:5432/database or, in development, embedded:///absolute/folder"


def told(result: subprocess.CompletedProcess) -> tuple[int, str, str]:
    return result.returncode, result.stdout, result.stderr


def manage(*arguments: str, checkout: Path = REPOSITORY, **environment: str | None) -> subprocess.CompletedProcess:
    """Run manage.py as in production, but for the given variables; None removes one."""
    variables = {**os.environ, **PRODUCTION, **environment, "LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1"}
    variables = {name: value for name, value in variables.items() if value is not None}
    if checkout == REPOSITORY:
        return Run(*arguments, env=variables).completed()
    command = [sys.executable, "-W", "error", "manage.py", *arguments]
    return subprocess.run(command, cwd=checkout, env=variables, capture_output=True, text=True, check=False)


def settings(*names: str, checkout: Path = REPOSITORY, **environment: str | None) -> list:
    """The values that settings get in a process of their own."""
    values = f"[getattr(settings, n) for n in {names}]"
    code = f"import json; from django.conf import settings; print(json.dumps({values}, default=str))"
    result = manage("shell", "--no-imports", "-c", code, checkout=checkout, **environment)
    assert result.stderr == ""
    return json.loads(result.stdout)


@pytest.fixture
def checkout(tmp_path) -> Callable[[str | bytes | None], Path]:
    """Make a copy of the code with this text as its .env."""

    def make(env_file: str | bytes | None, name: str = "checkout") -> Path:
        folder = tmp_path / name
        for package in ("keyhub", "accounts", "tenancy", "auth_sessions", "audit", "orgs"):
            shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "manage.py", folder)
        if env_file is not None:
            (folder / ".env").write_bytes(env_file.encode() if isinstance(env_file, str) else env_file)
        return folder

    return make


# Missing and wrong values


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        (
            {"SECRET_KEY": ""},
            "SECRET_KEY is not set and DEBUG is off. Set it to at least 50 random characters, in the environment or in "
            ".env.",
        ),
        (
            {"DATABASE_URL": ""},
            "DATABASE_URL is not set and DEBUG is off. Set it to postgres://user:password@host:5432/database; KeyHub "
            "starts no database by itself in production.",
        ),
        (
            {"ALLOWED_HOSTS": ""},
            "ALLOWED_HOSTS is not set and DEBUG is off. Set it to the host names of the admin, separated by commas.",
        ),
        ({"DEBUG": "maybe"}, "DEBUG is 'maybe', which is neither on nor off. Set it to on or off."),
        ({"DEMO_DATA": "2"}, "DEMO_DATA is '2', which is neither on nor off. Set it to on or off."),
        (
            {"BEHIND_TLS_PROXY": "nginx", "DEBUG": "on"},
            "BEHIND_TLS_PROXY is 'nginx', which is neither on nor off. Set it to on or off.",
        ),
        (
            {"SECOND_FACTOR": "sometimes"},
            "SECOND_FACTOR is 'sometimes', which is neither on nor off. Set it to on or off.",
        ),
        (
            {"IDENTITY_SESSION_LIFETIME": "for ever"},
            "IDENTITY_SESSION_LIFETIME: 'for ever' is no duration: write 30m, 24h or 7d.",
        ),
        (
            {"METRICS_TOKEN": "hunter2"},
            "METRICS_TOKEN has less than 32 characters. Set it to as many random ones, or to none.",
        ),
        ({"LANGUAGE_CODE": "fr"}, "LANGUAGE_CODE is 'fr', which KeyHub does not speak. Set it to en or ja."),
        (
            {"DATABASE_URL": "mysql://keyhub:hunter2@db/keyhub"},
            f"DATABASE_URL begins with mysql://, but KeyHub runs on PostgreSQL only. Set it to {FORMS}.",
        ),
        (
            {"DATABASE_URL": "postgres://keyhub:hunter2@db:port/keyhub"},
            f"DATABASE_URL names a port that is no number from 1 to 65535. Set it to {FORMS}.",
        ),
        ({"DATABASE_URL": "postgres://keyhub:hunter2@db"}, f"DATABASE_URL names no database. Set it to {FORMS}."),
        (
            {"REPLICA_DATABASE_URL": "postgres://keyhub:hunter2@db2/keyhub postgres://keyhub:hunter2@db3"},
            f"REPLICA_DATABASE_URL names no database. Set it to {FORMS}.",
        ),
        (
            {"REPLICA_DATABASE_URL": "embedded:///srv/keyhub", "DEBUG": "on"},
            "REPLICA_DATABASE_URL names an embedded PostgreSQL, which is no standby. Set it to "
            "postgres://user:password@host:5432/database, several with a space between them.",
        ),
        (
            {"DIRECT_DATABASE_URL": "postgres://keyhub:hunter2@db"},
            f"DIRECT_DATABASE_URL names no database. Set it to {FORMS}.",
        ),
        (
            {"ADMIN_DATABASE_URL": "postgres://keyhub:hunter2@db"},
            f"ADMIN_DATABASE_URL names no database. Set it to {FORMS}.",
        ),
        (
            {
                "ADMIN_DATABASE_URL": "postgres://keyhub:hunter2@db/admin",
                "ADMIN_DIRECT_DATABASE_URL": "postgres://keyhub:hunter2@db",
            },
            f"ADMIN_DIRECT_DATABASE_URL names no database. Set it to {FORMS}.",
        ),
    ],
    ids=lambda value: " ".join(f"{name}={text}" for name, text in value.items()) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("command", [["check"], ["migrate"], ["embedded", "status"]], ids=" ".join)
def test_refused_in_one_sentence(command, environment, sentence):
    assert told(manage(*command, **environment)) == (1, "", f"keyhub: {sentence}\n")


def test_unreachable_database():
    assert told(manage("check", "--database", "default")) == (
        3,
        "",
        'keyhub: the database cannot be reached: connection failed: connection to server at "127.0.0.1", port 1 '
        "failed: Connection refused Is the server running on that host and accepting TCP/IP connections?\n",
    )


def test_missing_database(server):
    url = database_url(server, "nowhere")
    assert told(manage("check", "--database", "default", DATABASE_URL=url)) == (
        3,
        "",
        "keyhub: the database cannot be reached: connection failed: connection to server on socket "
        f'"{server.socket_directory}/.s.PGSQL.5432" failed: FATAL: database "nowhere" does not exist\n',
    )


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", "terminating connection due to administrator command"),
        (
            "DO 'BEGIN RAISE disk_full USING HINT = ''Check free disk space.''; END'",
            "disk_full HINT: Check free disk space. CONTEXT: PL/pgSQL function inline_code_block line 1 at RAISE",
        ),
    ],
    ids=["shut down", "disk full"],
)
def test_server_that_cannot_go_on(server, empty_database, statement, reason):
    code = f"from django.db import connection; connection.cursor().execute({statement!r})"
    url = database_url(server, empty_database)
    assert told(manage("shell", "--no-imports", "-c", code, DATABASE_URL=url)) == (
        3,
        "",
        f"keyhub: the database server cannot go on: {reason}\n",
    )


# Values


# Without which everything but backups works, with the defaults that they name.
OPTIONAL = {
    "ADMIN_DATABASE_URL",
    "ADMIN_DIRECT_DATABASE_URL",
    "AUDIT_ARCHIVE_URL",
    "BACKUP_IDENTITY_FILE",
    "BACKUP_MAX_AGE",
    "BACKUP_PROVING_URL",
    "BACKUP_RECIPIENTS",
    "BACKUP_URL",
    "DIRECT_DATABASE_URL",
    "IDENTITY_SESSION_IDLE_TIMEOUT",
    "IDENTITY_SESSION_LIFETIME",
    "METRICS_TOKEN",
    "POSTGRES_BIN",
    "REPLICA_DATABASE_URL",
}


def test_env_example_names_every_variable():
    text = (REPOSITORY / ".env.example").read_text()
    assert sorted(re.findall(r"^(?:# )?([A-Z_]+)=", text, re.MULTILINE)) == sorted({*PRODUCTION, *OPTIONAL})
    source = (REPOSITORY / "keyhub/settings.py").read_text()
    assert set(re.findall(r'_(?:text|required|boolean|duration)\(\s*"([A-Z_]+)"', source)) == {*PRODUCTION, *OPTIONAL}


def test_defaults_of_development(checkout):
    folder = checkout("DEBUG=on\n", name="a b%é")
    unset = dict.fromkeys(PRODUCTION)
    assert settings(
        "DEBUG",
        "SECRET_KEY",
        "ALLOWED_HOSTS",
        "DEMO_DATA",
        "BEHIND_TLS_PROXY",
        "LANGUAGE_CODE",
        "TIME_ZONE",
        checkout=folder,
        **unset,
    ) == [
        True,
        "django-insecure-for-development-only",
        ["localhost", "127.0.0.1", "[::1]"],
        True,
        False,
        "en",
        "UTC",
    ]
    assert told(manage("embedded", "status", checkout=folder, **unset)) == (
        3,
        f"The embedded PostgreSQL in {folder}/.postgres is stopped.\n",
        "",
    )


def test_without_env_file_and_environment_nothing_starts(checkout):
    result = manage("check", checkout=checkout(None), **dict.fromkeys(PRODUCTION))
    assert told(result) == (
        1,
        "",
        "keyhub: SECRET_KEY is not set and DEBUG is off. Set it to at least 50 random characters, in the environment "
        "or in .env.\n",
    )


@pytest.mark.parametrize(
    ("environment", "names", "values"),
    [
        ({}, ["DEBUG", "DEMO_DATA", "SECURE_SSL_REDIRECT"], [False, False, True]),
        ({"DEMO_DATA": "on"}, ["DEMO_DATA"], [True]),
        ({"DEBUG": "on"}, ["DEBUG", "DEMO_DATA", "SECURE_SSL_REDIRECT"], [True, True, False]),
        ({"DEBUG": "TRUE", "DEMO_DATA": "No"}, ["DEBUG", "DEMO_DATA"], [True, False]),
        ({"ALLOWED_HOSTS": "a.example.com, b.example.com,"}, ["ALLOWED_HOSTS"], [["a.example.com", "b.example.com"]]),
        ({"SECRET_KEY": "$PATH" + "x" * 50}, ["SECRET_KEY"], ["$PATH" + "x" * 50]),
        ({"LANGUAGE_CODE": "ja"}, ["LANGUAGE_CODE"], ["ja"]),
        ({}, ["IDENTITY_SESSION_LIFETIME", "IDENTITY_SESSION_IDLE_TIMEOUT"], ["12:00:00", "0:30:00"]),
        ({"IDENTITY_SESSION_IDLE_TIMEOUT": "1h"}, ["IDENTITY_SESSION_IDLE_TIMEOUT"], ["1:00:00"]),
        ({}, ["SECURE_PROXY_SSL_HEADER"], [None]),
        ({}, ["SECOND_FACTOR"], [True]),
        ({"DEBUG": "on"}, ["SECOND_FACTOR"], [False]),
        ({"DEBUG": "on", "SECOND_FACTOR": "on"}, ["SECOND_FACTOR"], [True]),
        ({"SECOND_FACTOR": "off"}, ["SECOND_FACTOR"], [False]),
        ({}, ["SESSION_COOKIE_NAME", "CSRF_COOKIE_NAME"], ["__Host-session", "__Host-csrf"]),
        ({}, ["REPLICAS", "WRITTEN_COOKIE_NAME"], [{}, "__Host-written"]),
        ({"DEBUG": "on"}, ["WRITTEN_COOKIE_NAME"], ["written"]),
        ({}, ["SESSION_COOKIE_SECURE", "SESSION_COOKIE_HTTPONLY", "SESSION_COOKIE_SAMESITE"], [True, True, "Lax"]),
        ({}, ["SESSION_COOKIE_PATH", "SESSION_COOKIE_DOMAIN", "CSRF_COOKIE_SECURE"], ["/", None, True]),
        ({}, ["SESSION_COOKIE_AGE", "OPERATOR_SESSION_LIFETIME"], [1800, "12:00:00"]),
        ({}, ["METRICS_TOKEN", "WHITENOISE_ALLOW_ALL_ORIGINS"], ["", False]),
        ({"BEHIND_TLS_PROXY": "on"}, ["SECURE_PROXY_SSL_HEADER"], [["HTTP_X_FORWARDED_PROTO", "https"]]),
    ],
)
def test_values(environment, names, values):
    assert settings(*names, **environment) == values


def test_replicas():
    urls = "postgres://reader@h1,h2/keyhub?options=-cwork_mem%3D64MB&connect_timeout=5\n\tpostgres://reader@h3/keyhub "
    databases, replicas = settings("DATABASES", "REPLICAS", REPLICA_DATABASE_URL=urls)
    assert list(databases) == ["default", "replica1", "replica2"]
    assert replicas == {alias: databases[alias] for alias in ("replica1", "replica2")}
    assert [(each["HOST"], each["OPTIONS"]) for each in replicas.values()] == [
        (
            "h1,h2",
            {
                "application_name": "keyhub",
                "connect_timeout": "5",
                "options": "-cwork_mem=64MB -c default_transaction_read_only=on",
            },
        ),
        (
            "h3",
            {
                "application_name": "keyhub",
                "connect_timeout": "2",
                "options": "-c default_transaction_read_only=on",
            },
        ),
    ]
    for each in replicas.values():
        assert (each["TEST"]["MIRROR"], each["CONN_MAX_AGE"], each["CONN_HEALTH_CHECKS"]) == ("default", 60, True)


def test_connections_of_production():
    urls = {"DATABASE_URL": "postgres://keyhub@pooler/keyhub", "DIRECT_DATABASE_URL": "postgres://keyhub@h1,h2/keyhub"}
    ((_, database),) = settings("DATABASES", **urls)[0].items()  # as manage.py's commands have it
    assert (database["ENGINE"], database["HOST"]) == ("keyhub.primary", "h1,h2")
    assert database["OPTIONS"]["target_session_attrs"] == "read-write"
    assert (database["CONN_MAX_AGE"], database["CONN_HEALTH_CHECKS"]) == (60, True)


# .env


def test_the_environment_wins_over_env_file(checkout):
    folder = checkout("# comment\n\nLANGUAGE_CODE=ja\nexport ALLOWED_HOSTS='a.example.com'\n")
    names = ("LANGUAGE_CODE", "ALLOWED_HOSTS")
    assert settings(*names, checkout=folder, LANGUAGE_CODE=None, ALLOWED_HOSTS=None) == ["ja", ["a.example.com"]]
    assert settings(*names, checkout=folder, LANGUAGE_CODE="en", ALLOWED_HOSTS=None) == ["en", ["a.example.com"]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("DEBUG=on\nSECRET_KEY = hunter2\n", ", line 2, is neither NAME=value nor a # comment. Correct it."),
        (b"SECRET_KEY=hunter2\xff\n", " is not in UTF-8. Save it in UTF-8."),
    ],
)
def test_broken_env_file(checkout, text, problem):
    folder = checkout(text)
    assert told(manage("check", checkout=folder)) == (1, "", f"keyhub: {folder}/.env{problem}\n")


def test_unreadable_env_file(checkout):
    folder = checkout(None)
    (folder / ".env").mkdir()
    sentence = f"keyhub: {folder}/.env cannot be read (Is a directory). Mend or remove it.\n"
    assert told(manage("check", checkout=folder)) == (1, "", sentence)


# Production


def test_check_deploy_finds_nothing():
    result = manage("check", "--deploy", "--fail-level", "WARNING")
    assert told(result) == (0, "System check identified no issues (0 silenced).\n", "")


@pytest.mark.parametrize("secret_key", ["short", "django-insecure-" + "x" * 50])
def test_check_deploy_finds_a_weak_secret_key(secret_key):
    result = manage("check", "--deploy", "--fail-level", "WARNING", SECRET_KEY=secret_key)
    assert result.returncode == 1
    assert "(security.W009)" in result.stderr
    assert secret_key not in result.stderr


def ask_for_session(server, hosts: str, database: str, session: str) -> subprocess.CompletedProcess:
    live = quote(str(server.socket_directory), safe="")
    url = f"postgres://keyhub@{hosts.format(live=live)}/{database}?target_session_attrs={session}"
    code = "from django.db import connection; print(connection.cursor().execute('SELECT 42').fetchone())"
    return manage("shell", "--no-imports", "-c", code, DATABASE_URL=url)


def test_several_hosts_reach_libpq(server, empty_database):
    assert told(ask_for_session(server, "127.0.0.1:1,{live}:5432", empty_database, "read-write")) == (0, "(42,)\n", "")
    assert told(ask_for_session(server, "{live}:5432", empty_database, "read-only")) == (
        3,
        "",
        "keyhub: the database cannot be reached: connection failed: connection to server on socket "
        f'"{server.socket_directory}/.s.PGSQL.5432" failed: session is not read-only\n',
    )
