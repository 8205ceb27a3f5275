"""A log record is one line, whatever is in it."""

import logging
import sys

from keyhub.log_lines import OneLine


def line(message: str, *arguments: object, exc_info=None) -> str:
    record = logging.LogRecord("django.request", logging.ERROR, "", 0, message, arguments, exc_info)
    return OneLine().format(record)


def test_what_a_client_sent_begins_no_line():
    assert line("Internal Server Error: %s", "/a\nERROR root: b\r\x1b[2J\u2028c\x85d") == (
        r"ERROR django.request: Internal Server Error: /a\nERROR root: b\r\x1b[2J\u2028c\x85d"
    )


def test_other_letters_stay():
    assert line("テナント – é\t100 %") == "ERROR django.request: テナント – é\\t100 %"


def test_a_traceback():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        text = line("failed", exc_info=sys.exc_info())
    assert text.startswith(r"ERROR django.request: failed\nTraceback (most recent call last):\n")
    assert text.endswith(r"\nValueError: two\nlines")
    assert len(text.splitlines()) == 1
