#!/usr/bin/env python
"""KeyHub's command line: Django's, with one clear sentence where the surroundings are at fault."""

import os
import sys

EXIT_REFUSED = 1
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130  # what a shell reports after Ctrl-C
# Classes of SQLSTATE: no room, memory or connection left; the server is shut down or crashed.
SERVER_AT_FAULT = ("53", "57P")


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyhub.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db.utils import OperationalError

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        return _refuse(str(error), EXIT_REFUSED)
    except OperationalError as error:
        reason = " ".join(str(error).split())
        # A server that answered gives an SQLSTATE; without one, nobody answered.
        sqlstate = getattr(error.__cause__, "sqlstate", None)
        if sqlstate is None:
            return _refuse(f"the database cannot be reached: {reason}", EXIT_UNREACHABLE)
        if sqlstate.startswith(SERVER_AT_FAULT):
            return _refuse(f"the database server cannot go on: {reason}", EXIT_UNREACHABLE)
        raise
    return 0


def _refuse(sentence: str, exit_code: int) -> int:
    print(f"keyhub: {sentence}", file=sys.stderr)  # noqa: T201
    return exit_code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(_refuse("interrupted", EXIT_INTERRUPTED))
