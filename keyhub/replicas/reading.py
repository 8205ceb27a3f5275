"""Which replica is read, and what is done where it fails: the primary is read instead, once."""

import logging
import random
import time
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.http import HttpRequest

from keyhub.replicas.patience import answering, one_transaction
from keyhub.replicas.router import reading_from
from keyhub.replicas.standing import BEGINNING, Primary, Standing, one_line
from keyhub.replicas.written import READING_METHODS, written_by

logger = logging.getLogger(__name__)

AWAY_S = 30.0
PATIENCE_S = 5.0  # a list gives its own queries up before

T = TypeVar("T")


class Away:
    """The replicas that are passed by, since they could not be asked or are none.

    When the time is over, the thread that comes first tries, and the others pass by until that one knows.
    """

    def __init__(self):
        self._until_s: dict[str, float] = {}
        self._lock = Lock()

    def is_passed_by(self, alias: str) -> bool:
        now_s = time.monotonic()
        with self._lock:
            until_s = self._until_s.get(alias)
            if until_s is None:
                return False
            if now_s >= until_s:
                self._until_s[alias] = now_s + AWAY_S
            return now_s < until_s

    def goes(self, alias: str, reason: str) -> None:
        with self._lock:
            was_away = alias in self._until_s
            self._until_s[alias] = time.monotonic() + AWAY_S
        if not was_away:
            logger.warning("%s is not read any more: %s", alias, reason)

    def comes(self, alias: str) -> None:
        with self._lock:
            was_away = self._until_s.pop(alias, None) is not None
        if was_away:
            logger.warning("%s is read again", alias)


_away = Away()


def read_for(request: HttpRequest, work: Callable[[], T]) -> T:
    """read(), as the operator may see it who asks: never without what they have written, and for reading alone."""
    return read(work, written_by(request)) if request.method in READING_METHODS else work()


def read(work: Callable[[], T], since: str = BEGINNING, patience_s: float = PATIENCE_S) -> T:
    """What `work` returns, whose queries go to a replica that has replayed the primary's log up to `since`.

    They go to the primary where there is none, and once more, where the replica fails or has not answered by the end of
    the patience: `work` must do nothing but read. Raises what it raises.
    """
    if not settings.REPLICAS:
        return work()
    try:
        primary = Primary.of(connections[DEFAULT_DB_ALIAS])
    except Error as error:
        logger.warning("no replica is read, since the primary does not say where it is: %s", one_line(error))
        return work()
    for alias in random.sample(list(settings.REPLICAS), len(settings.REPLICAS)):
        if _away.is_passed_by(alias):
            continue
        has_begun = False
        try:
            # One transaction: the next one may come to another server, through a pooler.
            with one_transaction(answering(alias), patience_s):
                if _is_good(alias, primary, since):
                    has_begun = True
                    with reading_from(alias):
                        return work()
        except Error as error:
            if has_begun:
                logger.warning("the primary is read, since %s failed: %s", alias, one_line(error))
                break
            _away.goes(alias, one_line(error))
    return work()


def _is_good(alias: str, primary: Primary, since: str) -> bool:
    standing = Standing.of(connections[alias], primary, since)
    if reason := standing.why_no_replica_of(primary):
        _away.goes(alias, reason)
        return False
    _away.comes(alias)
    return standing.has_replayed and standing.is_fresh
