"""One of the two databases is replaced by a restored copy (dbrestore --swap).

The old one, which is kept, must neither go on following nor keep a slot for nobody: a slot keeps the log, and a second
subscriber to a slot takes what the first one is waiting for.
"""

import time
from collections.abc import Callable

from django.db import DEFAULT_DB_ALIAS

from keyhub import placement
from keyhub.placement import ADMIN, SETTLED
from keyhub.splitadmin.errors import SplitError
from keyhub.splitadmin.procedure import to_default
from keyhub.splitadmin.replication import Feed
from keyhub.splitadmin.sessions import session

POLL_S = 0.05
# Who is still at work after it, the swap disconnects where it may.
REST_AFTER_S = 10


def refuse_beside_a_move() -> None:
    """Raise SplitError where rows are on their way from one database to the other."""
    if placement.state().step != SETTLED:
        raise SplitError(
            f"a move between the databases is under way ({placement.state().step}). Before one of them is replaced, "
            "end it (manage.py splitadmin, then manage.py splitadmin --finish), or manage.py splitadmin --rollback."
        )


def replace(alias: str, swap: Callable[[], str]) -> str:
    """Call `swap`, which gives the place of a database to another one, while nothing is replicated; return its answer.

    That is the name under which the old one is kept, with nothing of replication in it. Who follows from then on is for
    manage.py splitadmin to say. Where the swap fails, all is as before.
    """
    if not placement.state().is_split:
        return swap()
    feed = to_default()
    rested = _rest(feed, alias)
    try:
        kept = swap()
    except BaseException:
        if rested:
            with session(DEFAULT_DB_ALIAS) as tenant:
                feed.enable(tenant)
        raise
    with session(alias, dbname=kept) as old:
        if alias == ADMIN:
            feed.drop_slot(old)
        else:
            feed.unsubscribe(old)
    return kept


def _rest(feed: Feed, alias: str) -> bool:
    """Disable the subscription, and wait until nobody is connected for it any more; whether there was one."""
    with session(DEFAULT_DB_ALIAS) as tenant:
        if not feed.exists(tenant):
            return False
        feed.disable(tenant)
        _await_end(lambda: feed.is_at_work(tenant))
    if alias == ADMIN:
        with session(ADMIN) as admin:
            _await_end(lambda: feed.is_read(admin))
    return True


def _await_end(goes_on: Callable[[], bool]) -> None:
    deadline = time.monotonic() + REST_AFTER_S
    while goes_on() and time.monotonic() < deadline:
        time.sleep(POLL_S)
