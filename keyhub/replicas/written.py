"""What a browser has written, remembered in a cookie as the place in the primary's log where that ends.

A replica that has replayed the log up to there shows it. Nothing is said of time: exact, whatever the lag.
"""

import logging
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.http import HttpRequest, HttpResponse

from keyhub.replicas.standing import BEGINNING, one_line

logger = logging.getLogger(__name__)

READING_METHODS = ("GET", "HEAD", "OPTIONS")
# The last place that a log can have: no replica has come so far, and so the primary is read.
OUT_OF_REACH = "FFFFFFFF/FFFFFFFF"


def remember_writes(response: HttpResponse) -> str:
    """Let the browser be shown what was written until now; return the place in the primary's log where that ends."""
    if not settings.REPLICAS:
        return BEGINNING
    place = _end_of_log()
    response.set_signed_cookie(
        settings.WRITTEN_COOKIE_NAME,
        place,
        max_age=settings.OPERATOR_SESSION_LIFETIME,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )
    return place


def written_by(request: HttpRequest) -> str:
    """The place up to which a replica must have come; OUT_OF_REACH where the cookie is none of ours."""
    if settings.WRITTEN_COOKIE_NAME not in request.COOKIES:
        return BEGINNING
    return request.get_signed_cookie(settings.WRITTEN_COOKIE_NAME, default=OUT_OF_REACH)


class WrittenMiddleware:
    """Remembers for the browser what a request may have written. Stands before whatever writes, such as sessions."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        if not settings.REPLICAS:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.method not in READING_METHODS:
            remember_writes(response)
        return response


def _end_of_log() -> str:
    try:
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            # Not pg_current_wal_lsn(), which is before what a commit without synchronous_commit has yet to write.
            cursor.execute("SELECT pg_current_wal_insert_lsn()::text")
            return cursor.fetchone()[0]
    except Error as error:
        logger.warning("no replica is read, since the primary does not say what was written: %s", one_line(error))
        return OUT_OF_REACH
