"""A step asks for nothing but the database: no application code, no environment, no network, no extension."""

import re
import sys
from collections.abc import Iterator

from keyhub.lintmigrations import actions
from keyhub.lintmigrations.findings import Complaint, Place
from keyhub.lintmigrations.python_source import Named, PythonSource
from keyhub.lintmigrations.rules.registry import Scene, on_statement, on_step
from keyhub.lintmigrations.statements import Statement

# The vocabulary of migrations: what these do for given arguments never changes.
FROZEN = ("keyhub.migration_operations", "keyhub.foreign_keys", "keyhub.transaction_ids")
# What gives a migration the models of today in place of those of its own day.
MODELS_OF_TODAY = ("django.apps", "django.contrib.auth.get_user_model")
NETWORK = (
    "aiohttp", "boto3", "botocore", "django.core.mail", "ftplib", "http.client", "http.server", "httpx", "imaplib",
    "nntplib", "paramiko", "poplib", "requests", "smtplib", "socket", "socketserver", "ssl", "telnetlib",
    "urllib.request", "urllib3", "webbrowser", "xmlrpc",
)  # fmt: skip
PROCESSES = ("multiprocessing", "os.execv", "os.execve", "os.popen", "os.spawnl", "os.system", "pty", "subprocess")
ENVIRONMENT = ("decouple", "dotenv", "environ", "environs", "os.environ", "os.environb", "os.getenv", "platform.node")
# Settings that a migration may ask for, each with its reason. Whatever else differs between installations differs in
# what the migration does, and that cannot be tested anywhere else.
SETTINGS_ALLOWED = {
    "AUTH_USER_MODEL": "Django's makemigrations writes it, and Django records which model it means",
    "DEMO_DATA": "rows for demonstrations are an installation's choice, and nothing depends on them",
}
_ADDRESS = re.compile(
    r"\b[a-z][a-z0-9+.-]*://(?!\s|$)[^\s'\"]+|\b(?:\d{1,3}\.){3}\d{1,3}\b|\blocalhost\b", re.IGNORECASE
)
_FAR_AWAY = {"dblink", "dblink_connect", "dblink_exec", "dblink_send_query"}


@on_step("keyhub.M003")
def imports(scene: Scene) -> Iterator[Complaint]:
    """Old migrations run for ever: https://docs.djangoproject.com/en/5.2/topics/migrations/#historical-models"""
    source = scene.step.source
    for name, line in source.imports if source else ():
        if _within(name, FROZEN) or _within(name, NETWORK + PROCESSES + ENVIRONMENT):
            continue
        root = name.partition(".")[0]
        place = Place(scene.step.path, line)
        if _within(name, MODELS_OF_TODAY):
            yield Complaint(
                place,
                f"{scene.title} imports {name}, which gives it the models of today: it breaks when they change.",
                "Call apps.get_model(), with the apps that RunPython hands over.",
            )
        elif root not in sys.stdlib_module_names | {"django"}:
            yield Complaint(
                place,
                f"{scene.title} imports {name}: it breaks when that changes or goes.",
                "Copy the lines that it needs, or take apps.get_model(). A migration imports Django, the standard "
                f"library, {', '.join(FROZEN[:-1])} and {FROZEN[-1]}.",
            )


@on_step("keyhub.M004")
def environment(scene: Scene) -> Iterator[Complaint]:
    """The source's last DON'T; a setting read here makes two databases of one version differ."""
    source = scene.step.source
    if source is None:
        return
    for name, line in _reached(source, ENVIRONMENT):
        yield Complaint(
            Place(scene.step.path, line),
            f"{scene.title} reads {name}: what it does depends on the machine that runs it.",
            "Write the value into the migration, or let an operator enter it after the migration.",
        )
    for name, line in source.uses:
        setting = name.removeprefix("django.conf.settings").removeprefix(".")
        if name.startswith("django.conf.settings") and setting not in SETTINGS_ALLOWED:
            yield Complaint(
                Place(scene.step.path, line),
                f"{scene.title} reads settings.{setting or '…'}: two databases of one version come to differ.",
                "Write the value into the migration. A setting that is an installation's choice by contract goes, with "
                "its reason, into SETTINGS_ALLOWED of keyhub/lintmigrations/rules/outside.py.",
            )
    for text, line in source.texts():
        yield from _addresses(text, Place(scene.step.path, line), scene)


@on_statement("keyhub.M004")
def address_in_sql(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """The source's last DON'T: values of one environment."""
    if scene.step.source is not None and statement.place.path == scene.step.path:
        return  # its texts are read with the migration
    for token in statement.tokens:
        if token.kind == "string":
            yield from _addresses(token.literal, statement.place_at(token.offset), scene)


def _addresses(text: str, place: Place, scene: Scene) -> Iterator[Complaint]:
    for found in _ADDRESS.findall(text):
        yield Complaint(
            place,
            f"{scene.title} holds the address {found}, which is one environment's.",
            "Leave it out, and let an operator enter it after the migration.",
        )


@on_step("keyhub.M005")
def network(scene: Scene) -> Iterator[Complaint]:
    """The source's third DON'T, what depends on things outside: they are slow, or down, while locks are held."""
    source = scene.step.source
    for name, line in _reached(source, NETWORK + PROCESSES) if source else ():
        what = "the network" if _within(name, NETWORK) else "another program"
        yield Complaint(
            Place(scene.step.path, line),
            f"{scene.title} calls {what} ({name}): the migration fails or hangs where that does.",
            "Fetch what is needed beforehand, and write it into the migration.",
        )


@on_statement("keyhub.M005")
def network_in_sql(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """https://www.postgresql.org/docs/current/sql-copy.html: PROGRAM and files are the server's."""
    words = [token.name for token in statement.all_tokens if token.is_name]
    what = next((word for word in words if word in _FAR_AWAY), "")
    if words[:1] == ["copy"]:
        position = next((place for place, word in enumerate(words) if word in ("from", "to")), len(words))
        after = words[position + 1 : position + 2]
        what = (
            "COPY … PROGRAM"
            if after == ["program"]
            else ""
            if after[:1] in (["stdin"], ["stdout"])
            else "COPY with a file"
        )
    if words[:2] in (["create", "server"], ["create", "subscription"]):
        what = " ".join(words[:2]).upper()
    if what:
        yield Complaint(
            statement.place,
            f"{scene.title} leaves the database ({what}): the migration fails or hangs where what is outside does.",
            "Load what is needed beforehand, and write it into the migration.",
        )


def _reached(source: PythonSource, modules: tuple[str, ...]) -> list[Named]:
    """Where something of these modules is imported, or reached through a module above it, such as os."""
    imported = [named for named in source.imports if _within(named.name, modules)]
    roots = tuple(named.name for named in imported)
    return imported + [use for use in source.uses if _within(use.name, modules) and not _within(use.name, roots)]


def _within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


# https://www.postgresql.org/docs/current/uuid-ossp.html; gen_random_uuid() is PostgreSQL's own.
EXTENSION_FUNCTIONS = {
    "uuid_generate_v1": "uuid-ossp", "uuid_generate_v1mc": "uuid-ossp", "uuid_generate_v3": "uuid-ossp",
    "uuid_generate_v4": "uuid-ossp", "uuid_generate_v5": "uuid-ossp", "gen_random_bytes": "pgcrypto",
    "crypt": "pgcrypto", "gen_salt": "pgcrypto", "similarity": "pg_trgm", "unaccent": "unaccent",
}  # fmt: skip


@on_statement("keyhub.M019")
def extension(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """It takes a privilege, and a build that has it: https://www.postgresql.org/docs/current/sql-createextension.html"""
    for action in statement.actions:
        if isinstance(action, actions.CreateExtension):
            yield Complaint(
                statement.place,
                f"{scene.title} makes the extension {action.extension}: that takes a privilege on the database, and "
                "some builds of PostgreSQL lack it.",
                "Use what PostgreSQL has built in, such as gen_random_uuid().",
            )
    words = {token.name for token in statement.all_tokens if token.is_name}
    for function in sorted(words & set(EXTENSION_FUNCTIONS)):
        instead = "gen_random_uuid()" if function.startswith("uuid_") else "what PostgreSQL has built in"
        yield Complaint(
            statement.place,
            f"{scene.title} calls {function}() of the extension {EXTENSION_FUNCTIONS[function]}, which some builds of "
            "PostgreSQL lack.",
            f"Use {instead}.",
        )
