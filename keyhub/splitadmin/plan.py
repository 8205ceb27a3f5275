"""The steps of a move in words, with those that are done marked."""

from collections.abc import Iterator

from keyhub import placement
from keyhub.placement import ADMIN, SETTLED, State
from keyhub.splitadmin.record import FINISHING, FOLLOWING, PREPARING, RETURNING, REVERSIBLE, UNWINDING

# Each step, and the state in which it is the next one.
FORWARD = (
    (SETTLED, "look whether both servers are ready: wal_level, slots, rights, the version, an empty Admin database"),
    (PREPARING, "make the tables in the Admin database, by their migrations"),
    (FOLLOWING, "copy {tables} there, and follow what is written, by logical replication"),
    (FOLLOWING, "pause writers (below a second), take a snapshot of both sides, let writers go on, compare every row"),
    (FOLLOWING, "pause writers again (below a second): the Admin database is the home; compare every row once more"),
    (REVERSIBLE, "let the tenant database follow, so that --rollback loses nothing"),
    (REVERSIBLE, "--finish: empty {moved} in the tenant database; {followed} it follows for good"),
)
BACK = (
    (SETTLED, "--back: copy {moved} into the tenant database again, and follow"),
    (RETURNING, "pause writers (below a second), take a snapshot of both sides, let writers go on, compare every row"),
    (REVERSIBLE, "pause writers again (below a second): the tenant database is the home"),
    (UNWINDING, "take away the replication, and empty the tables of the Admin database"),
)


def lines(state: State) -> Iterator[str]:
    """One line for each step: what is done, what is next, what comes then."""
    followed = placement.followed_tables()
    names = {
        "tables": _list(placement.admin_tables()),
        "followed": _list(followed),
        "moved": _list(table for table in placement.admin_tables() if table not in followed),
    }
    is_back = state == State(ADMIN) or state.step in (RETURNING, UNWINDING)
    steps = BACK if is_back else FORWARD
    order = [SETTLED, PREPARING, FOLLOWING, REVERSIBLE, FINISHING] if not is_back else [
        SETTLED, RETURNING, REVERSIBLE, UNWINDING,
    ]  # fmt: skip
    is_next = False
    for number, (step, text) in enumerate(steps, start=1):
        is_done = order.index(step) < order.index(state.step)
        mark = "done" if is_done else "then" if is_next else "next"
        is_next |= not is_done
        yield f"{number}. {mark}  {text.format(**names)}"


def ways_on(state: State) -> str:
    """The commands that end a move."""
    if state.step in (PREPARING, FOLLOWING):
        return "manage.py splitadmin, or manage.py splitadmin --rollback"
    if state.step == REVERSIBLE:
        return "manage.py splitadmin --finish, or manage.py splitadmin --rollback"
    return f"manage.py splitadmin {'--finish' if state.step == FINISHING else '--back'}"


def _list(names) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
