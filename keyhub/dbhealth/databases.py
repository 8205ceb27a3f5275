"""A run for each database that has a schema: the tenant database, and the Admin database where it is one of its own."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from django.db import DEFAULT_DB_ALIAS, DatabaseError

from keyhub import placement
from keyhub.dbhealth.examination import Selection, run
from keyhub.dbhealth.findings import Report
from keyhub.placement import ADMIN, State


@dataclass(frozen=True)
class Unasked:
    """A database that could not be asked, and why, in the server's or libpq's words."""

    database: str
    reason: str

    @classmethod
    def of(cls, database: str, error: DatabaseError) -> "Unasked":
        return cls(database, " ".join(str(error).split()))

    def __str__(self) -> str:
        return f"the database {self.database!r} could not be checked: {self.reason}"


def run_everywhere(
    selection: Selection | None = None, run_on: Callable[..., Report] | None = None
) -> list[Report | Unasked]:
    """Run the checks on each of the databases, one after the other; what one of them cannot say, the other does.

    `run_on` is called instead of run(), with the alias and, for the Admin database, the state by the name of `state`.
    """
    run_on = run_on or partial(run, selection=selection)
    tenant = _asked(run_on, DEFAULT_DB_ALIAS)
    state = tenant.state if isinstance(tenant, Report) else None
    if not placement.has_admin() or not _has_tables(state):
        return [tenant]
    admin = _asked(run_on, ADMIN, state=state)
    if isinstance(admin, Report) and not _has_tables(admin.state):
        return [tenant]
    return [tenant, admin]


def _has_tables(state: State | None) -> bool:
    """Whether the Admin database has tables, as far as is known."""
    from keyhub.splitadmin.record import PREPARING

    return state is None or (state.is_split and state.step != PREPARING)


def run_alone(database: str, selection: Selection | None = None) -> Report | Unasked:
    """Run the checks on one of the databases."""
    state = None
    if database == ADMIN:
        with suppress(DatabaseError):  # then the Admin database's own word has to do
            state = placement.state()
    return _asked(partial(run, selection=selection), database, state=state)


def _asked(run_on: Callable[..., Report], database: str, **options) -> Report | Unasked:
    try:
        return run_on(database, **options)
    except DatabaseError as error:
        return Unasked.of(database, error)
