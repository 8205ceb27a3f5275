"""Log records as one line each, traceback and all."""

import logging

# What ends a line for str.splitlines(), and what a terminal would obey.
_ESCAPED = {code: repr(chr(code))[1:-1] for code in (*range(32), 127, *range(128, 160), 0x2028, 0x2029)}


class OneLine(logging.Formatter):
    """Collectors take each line for a record; a name that a client sent must not begin one."""

    def __init__(self):
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).translate(_ESCAPED)
