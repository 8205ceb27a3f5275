#!/usr/bin/env python
"""KeyHub's command line: Django's, with one clear sentence where the surroundings are at fault."""

import os
import sys

EXIT_REFUSED = 1
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130  # what a shell reports after Ctrl-C
# Classes of SQLSTATE: no room, memory or connection left; the server is shut down or crashed.
SERVER_AT_FAULT = ("53", "57P")
CONNECTION_EXCEPTION = "08"  # what a pooler says whose server is gone
READ_ONLY_SQL_TRANSACTION = "25006"


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyhub.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db.utils import InternalError, OperationalError

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        return _refuse(str(error), EXIT_REFUSED)
    except OperationalError as error:
        reason = _reason(error)
        # A server that answered gives an SQLSTATE; without one, nobody answered.
        sqlstate = getattr(error.__cause__, "sqlstate", None)
        if sqlstate is None or sqlstate.startswith(CONNECTION_EXCEPTION):
            return _refuse(f"the database cannot be reached: {reason}", EXIT_UNREACHABLE)
        if sqlstate.startswith(SERVER_AT_FAULT):
            return _refuse(f"the database server cannot go on: {reason}", EXIT_UNREACHABLE)
        raise
    except InternalError as error:
        if getattr(error.__cause__, "sqlstate", None) != READ_ONLY_SQL_TRANSACTION:
            raise
        reason = _reason(error)
        return _refuse(f"the database takes no writes, as a standby does: {reason}", EXIT_UNREACHABLE)
    return 0


def _reason(error: Exception) -> str:
    """The words of an error, in one line. Of several hosts psycopg tells the last one's first, and then each."""
    words = str(error).partition("All failures were:\n- ")[2] or str(error)
    return " ".join(words.split())


def _refuse(sentence: str, exit_code: int) -> int:
    print(f"keyhub: {sentence}", file=sys.stderr)  # noqa: T201
    return exit_code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(_refuse("interrupted", EXIT_INTERRUPTED))
