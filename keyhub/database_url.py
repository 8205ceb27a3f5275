"""DATABASE_URL, or another variable with a URL, as one entry of Django's DATABASES."""

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

POSTGRES_SCHEMES = ("postgres", "postgresql")
FORMS = "postgres://user:password@host:5432/database or, in development, embedded:///absolute/folder"
REPLICA_FORM = "postgres://user:password@host:5432/database, several with a space between them"
EMBEDDED_FORMS = "embedded:///absolute/folder or embedded:///absolute/folder?bin=/folder/of/postgres/programs"
REPLICA_CONNECT_TIMEOUT_S = 2  # the least that libpq takes, for each address
# A second @, or an @ behind the first /: libpq would take a part of the password for a host, a port or a database.
UNENCODED = re.compile(r"://[^/@]*(@[^/?]*@|/[^?]*@)")

# NUL, and what is left of bytes that are no UTF-8.
UNUSABLE_IN_A_PATH = re.compile("[\0\ufffd\ud800-\udfff]")


def database_from_url(url: str, variable: str = "DATABASE_URL") -> dict:
    """Return the DATABASES entry that `url`, the value of `variable`, names.

    A postgres:// URL is read by libpq itself, so that several hosts and every parameter work as in psql:
    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING. No part of the URL is repeated in a
    message, since any may hold the password.

    Raises ImproperlyConfigured, in one sentence, where the URL cannot be used.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    if scheme is None:
        raise ImproperlyConfigured(f"{variable} is no URL. Set it to {FORMS}.")
    scheme = scheme[1]
    if scheme == "embedded":
        return _embedded(url, variable)
    if scheme not in POSTGRES_SCHEMES:
        raise ImproperlyConfigured(
            f"{variable} begins with {scheme}://, but KeyHub runs on PostgreSQL only. Set it to {FORMS}."
        )
    if UNENCODED.search(url):
        raise ImproperlyConfigured(
            f"{variable} cannot be read, since its user or password holds a character that means something else in a "
            "URL. Write % as %25, / as %2F and @ as %40."
        )
    try:
        parameters = conninfo_to_dict(url)
    except psycopg.Error as error:
        reason = str(error).partition(': "')[0]  # behind it, libpq repeats what it could not read
        raise ImproperlyConfigured(f"{variable} cannot be read ({reason}). Set it to {FORMS}.") from None
    if not parameters.get("dbname"):
        raise ImproperlyConfigured(f"{variable} names no database. Set it to {FORMS}.")
    ports = parameters.get("port", "").split(",")
    if not all(port == "" or (port.isdecimal() and 0 < int(port) < 65536) for port in ports):
        raise ImproperlyConfigured(f"{variable} names a port that is no number from 1 to 65535. Set it to {FORMS}.")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parameters.pop("dbname"),
        "USER": parameters.pop("user", ""),
        "PASSWORD": parameters.pop("password", ""),
        "HOST": parameters.pop("host", ""),
        "PORT": parameters.pop("port", ""),
        "OPTIONS": {"application_name": "keyhub", **parameters},
    }


def replica_from_url(url: str) -> dict:
    """Return the DATABASES entry of a standby: its sessions are read-only, and who does not answer is not waited for.

    Raises ImproperlyConfigured, as database_from_url() does.
    """
    database = database_from_url(url, "REPLICA_DATABASE_URL")
    if "EMBEDDED" in database:
        raise ImproperlyConfigured(
            f"REPLICA_DATABASE_URL names an embedded PostgreSQL, which is no standby. Set it to {REPLICA_FORM}."
        )
    options = {"connect_timeout": str(REPLICA_CONNECT_TIMEOUT_S), **database["OPTIONS"]}
    options["options"] = f"{options.get('options', '')} -c default_transaction_read_only=on".strip()
    return database | {"OPTIONS": options, "TEST": {"MIRROR": "default"}}


def _embedded(url: str, variable: str) -> dict:
    path, _, query = url.removeprefix("embedded://").partition("?")
    folder = unquote(path)
    options = dict(parse_qsl(query, keep_blank_values=True))
    bin_directory = options.pop("bin", "")
    absolute = folder.startswith("/") and bin_directory[:1] in ("", "/")
    if not absolute or not folder.strip("/") or UNUSABLE_IN_A_PATH.search(folder + bin_directory) or options:
        raise ImproperlyConfigured(
            f"{variable} names no folder for an embedded PostgreSQL. Set it to {EMBEDDED_FORMS}."
        )
    return {
        "ENGINE": "keyhub.embedded",
        "NAME": "keyhub",
        "USER": "keyhub",
        "OPTIONS": {"application_name": "keyhub"},
        "EMBEDDED": {"folder": Path(folder), "bin_directory": Path(bin_directory) if bin_directory else None},
    }
