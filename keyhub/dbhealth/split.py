"""Where the rows of the Admin database are written, and who knows it: keyhub.H060 to H062, and H063 to H069 (feeds)."""

from collections.abc import Iterator

from django.db import DEFAULT_DB_ALIAS, DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from keyhub import placement
from keyhub.dbhealth import feeds
from keyhub.dbhealth.aside import aside, comes_true
from keyhub.dbhealth.examination import Examination
from keyhub.dbhealth.findings import Finding, Severity, Skipped, Unreadable
from keyhub.dbhealth.server import duration
from keyhub.placement import ADMIN, SETTLED, State

LONGEST_MOVE_S = 3600
VARIABLE = "ADMIN_DATABASE_URL"

Results = Iterator[Finding | Skipped | Unreadable]


def split(examination: Examination) -> Results:
    """Look whether both databases agree, and whether one follows the other. With one database: a look at a name."""
    if examination.is_copy or not (placement.has_admin() or examination.split or examination.lacks_split):
        return
    if examination.state is None:
        yield Unreadable("keyhub.H060", "keyhub_split")
        return
    if examination.place != ADMIN:
        yield from _of_settings(examination.state)
        yield from _of_move(examination)
        if placement.has_admin():
            yield from _of_records(examination)
    yield from feeds.feeds(examination)


def _of_settings(state: State) -> Results:
    if placement.has_admin() and not state.is_split:
        yield Finding(
            "keyhub.H060", Severity.NOTICE, VARIABLE, "it names a second database, and everything lives in this one",
            "manage.py splitadmin",
        )  # fmt: skip
    elif state.is_split and not placement.has_admin():
        are = "reads copies, and may not write them" if state.home == ADMIN else "will not find what has moved"
        yield Finding(
            "keyhub.H060", Severity.CRITICAL, VARIABLE,
            f"it is not set, although {_words(state)}: who does without it {are}",
            f"set {VARIABLE}, wherever DATABASE_URL names this database",
        )  # fmt: skip


def _of_move(examination: Examination) -> Results:
    state = examination.state
    if state.step == SETTLED:
        return
    since_s = examination.split.since_s
    yield Finding(
        "keyhub.H062", Severity.WARNING if since_s > LONGEST_MOVE_S else Severity.NOTICE, "keyhub_split",
        f"{_words(state)}, for {duration(since_s)}", _ways_on(state),
    )  # fmt: skip


def _of_records(examination: Examination) -> Results:
    ours = examination.state
    try:
        with aside(ADMIN) as admin:
            theirs = placement.read_state(admin)
            if ours != theirs and not _come_to_agree(admin):
                yield _disagreement(ours, theirs)
    except DatabaseError as error:
        yield Skipped(
            "keyhub.H061", "the Admin database", f"it cannot be asked: {' '.join(str(error).split())}",
            f"start it, or correct {VARIABLE}",
        )  # fmt: skip


def _come_to_agree(admin: BaseDatabaseWrapper) -> bool:
    """A step is noted in one of them first."""
    with aside(DEFAULT_DB_ALIAS) as tenant:
        return comes_true(lambda: placement.read_state(tenant) == placement.read_state(admin))


def _disagreement(ours: State, theirs: State) -> Finding:
    if ours.step != SETTLED:
        mend = _ways_on(ours)
    elif ours.home == ADMIN:
        mend = "manage.py splitadmin --repair"
    else:
        mend = (
            "-- If the tenant database was restored from a backup of before the move:\n"
            "manage.py splitadmin --restored default\n"
            "-- If all rows are in the tenant database, in the Admin database:\n"
            f"UPDATE keyhub_split SET home = '{ours.home}', step = '{ours.step}';"
        )
    return Finding(
        "keyhub.H061", Severity.CRITICAL, "keyhub_split",
        f"the tenant database, whose word counts, says that {_words(ours)}; the Admin database says that "
        f"{_words(theirs)}",
        mend,
    )  # fmt: skip


def _words(state: State) -> str:
    from keyhub.splitadmin.procedure import words

    return words(state)


def _ways_on(state: State) -> str:
    from keyhub.splitadmin.plan import ways_on

    return ways_on(state)
