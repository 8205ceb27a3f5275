"""A pooler in transaction mode for the site, the server itself for commands: docs/pooling.md."""

from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from keyhub.database_url import database_from_url
from keyhub.primary import to_the_primary

COMMAND_LINES = [("manage.py",), ("django-admin",), ("django", "__main__.py")]  # the last one is `python -m django`


def needs_sessions(arguments: list[str]) -> bool:
    """Say whether a process with these arguments (sys.argv) runs a command, which may need locks and settings that last
    for a session. `runserver` serves the site.
    """
    program = Path(*arguments[:1]).parts
    return any(program[-len(end) :] == end for end in COMMAND_LINES) and arguments[1:2] != ["runserver"]


def entry(variable: str, url: str, direct_url: str, arguments: list[str]) -> dict:
    """Return the entry of DATABASES for what `variable`, say DATABASE_URL, names: where that is a pooler in transaction
    mode, `direct_url`, of DIRECT_DATABASE_URL, leads to the server behind it, and commands go there.

    Raises ImproperlyConfigured, in one sentence, where one of them cannot be used.
    """
    database = database_from_url(url, variable)
    if not direct_url:
        return to_the_primary(database)
    pooled = through_a_pooler(database, variable)
    direct = database_from_url(direct_url, variable.replace("DATABASE_URL", "DIRECT_DATABASE_URL"))
    return to_the_primary(direct) if needs_sessions(arguments) else pooled


def through_a_pooler(database: dict, variable: str = "DATABASE_URL") -> dict:
    """Return an entry of DATABASES as a pooler in transaction mode needs it: whatever outlives a transaction is lost.

    Django prepares no statements unless it is told to, and PgBouncer itself keeps the time zone that Django sets.
    """
    if "target_session_attrs" in database["OPTIONS"]:
        # PgBouncer greets each client with what it was told when it first connected, and libpq believes that.
        raise ImproperlyConfigured(
            f"{variable} names a pooler, and has target_session_attrs, which a pooler answers with what its server was "
            "long ago. Leave it out, and let the pooler lead to the primary."
        )
    database = to_the_primary(database)
    options = {name: value for name, value in database["OPTIONS"].items() if name != "target_session_attrs"}
    return {**database, "OPTIONS": options, "DISABLE_SERVER_SIDE_CURSORS": True}
