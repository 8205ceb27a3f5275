"""One look at a database: a single snapshot, read-only, under a statement_timeout, through registered checks."""

import enum
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from django.db import DEFAULT_DB_ALIAS, DatabaseError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration

from keyhub import placement
from keyhub.dbhealth.findings import Finding, Report, Severity, Skipped, Unreadable

STATEMENT_TIMEOUT_MS = 10_000
LOCK_TIMEOUT_MS = 2_000
QUERY_CANCELED = "57014"
LOCK_NOT_AVAILABLE = "55P03"
NOT_LOOKED = "keyhub.H019"

MigrationKey = tuple[str, str]

# For each of the tables of records: whether it is here, may be read, and has the columns that are read; and whether
# there are others besides them.
RECORDS_EXIST = """
    SELECT records.oid IS NOT NULL, has_table_privilege(records.oid, 'SELECT'),
        (SELECT count(*) FROM pg_attribute
         WHERE attrelid = records.oid AND attname = ANY(columns)) = cardinality(columns),
        EXISTS (SELECT FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace
                AND relname NOT IN ('django_migrations', 'keyhub_migrations', 'keyhub_split'))
    FROM (VALUES (1, to_regclass('django_migrations'), '{app,name,id}'::text[]),
                 (2, to_regclass('keyhub_migrations'), '{app,name,digest}'),
                 (3, to_regclass('keyhub_split'), '{home,step,changed_at}')) AS records (place, oid, columns)
    ORDER BY place
"""
SPLIT = "SELECT home, step, extract(epoch FROM statement_timestamp() - changed_at)::float FROM keyhub_split"
RECORDS = "SELECT app, name, count(*) FROM django_migrations GROUP BY app, name"


class Phase(enum.StrEnum):
    """Before migrate: what would make it fail or wait. After it: whether it did what the code says."""

    PRE_MIGRATE = "pre-migrate"
    POST_MIGRATE = "post-migrate"


@dataclass(frozen=True)
class Split:
    """What the table keyhub_split says, and since how many seconds."""

    state: placement.State
    since_s: float


class Examination:
    """What checks ask the database through.

    `place` is the alias of the database that it is, or of which it is a copy; `state` says where the rows of the Admin
    database are written, as the tenant database knows it (None: as this one does).
    """

    def __init__(
        self, connection: BaseDatabaseWrapper, report: Report, place: str, state: placement.State | None = None
    ):
        self.connection = connection
        self.report = report
        self.place = place
        self._state = state
        # Tables of which an index or a key is not as it should be: what else is odd about theirs may follow from that.
        self.drifted_tables: set[str] = set()

    def rows(self, query: str, parameters: Sequence | dict | None = None) -> list[tuple]:
        with self.connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchall()

    def bounded_rows(self, query: str, timeout_ms: int) -> list[tuple] | None:
        """The rows of a query that may take long; None where it took longer than the timeout."""
        try:
            with transaction.atomic(using=self.connection.alias):
                with self.connection.cursor() as cursor:
                    cursor.execute(f"SET LOCAL statement_timeout = {timeout_ms}")
                rows = self.rows(query)
                with self.connection.cursor() as cursor:
                    cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
                return rows
        except DatabaseError as error:
            if getattr(error.__cause__, "sqlstate", None) != QUERY_CANCELED:
                raise
            return None

    @cached_property
    def role(self) -> str:
        ((role,),) = self.rows("SELECT quote_ident(current_user)")
        return role

    @cached_property
    def loader(self) -> MigrationLoader:
        """The migrations of the code, without what the database says of them."""
        return MigrationLoader(None, ignore_no_migrations=True)

    @cached_property
    def migrations(self) -> dict[MigrationKey, Migration]:
        """Those of them that do something in this database."""
        nodes = self.loader.graph.nodes
        return {key: node for key, node in nodes.items() if placement.concerns(self.place, node)}

    @property
    def is_copy(self) -> bool:
        """Whether this is none of the two databases themselves, such as a backup that was restored beside one."""
        return self.connection.alias != self.place

    @cached_property
    def _records_state(self) -> list[tuple]:
        return self.rows(RECORDS_EXIST)

    @property
    def lacks_records(self) -> bool:
        """Whether the role may not read Django's records, which are here."""
        return self._records_state[0][1] is False

    @property
    def lacks_digests(self) -> bool:
        """Whether the role may not read keyhub_migrations, which is here."""
        return self._records_state[1][1] is False

    @property
    def has_digests(self) -> bool:
        """Whether keyhub_migrations is here and whole: where it is not, drift tells what of it is gone."""
        return bool(self._records_state[1][2])

    @property
    def lacks_split(self) -> bool:
        """Whether the role may not read keyhub_split, which is here."""
        return self._records_state[2][1] is False

    @cached_property
    def split(self) -> Split | None:
        """What keyhub_split says here; None where there is no such table, or it may not be read."""
        exists, readable, is_whole, _ = self._records_state[2]
        rows = self.rows(SPLIT) if exists and readable and is_whole else []
        return Split(placement.State(*rows[0][:2]), rows[0][2]) if rows else None

    @property
    def state(self) -> placement.State | None:
        """Where the rows of the Admin database are written; None where that cannot be known."""
        if self._state is not None:
            return self._state
        if self.split is not None:
            return self.split.state
        return None if self.lacks_split else placement.State()

    @cached_property
    def records(self) -> dict[MigrationKey, int] | None:
        """How many times each migration is recorded as applied; None where nothing tells, and the report says why."""
        exists, _, is_whole, tables = self._records_state[0]
        if self.lacks_records:
            self.report.notes.append("django_migrations may not be read: drift is measured against the newest version")
            return None
        rows = self.rows(RECORDS) if exists and is_whole else []
        if not rows and tables:
            self.report.notes.append(
                "the tables are here, and django_migrations is gone, altered or empty: "
                "drift is measured against the newest version"
            )
            return None
        return {(app, name): count for app, name, count in rows}


Result = Finding | Skipped | Unreadable
Check = Callable[[Examination], Iterable[Result]]


@dataclass(frozen=True)
class Registered:
    check: Check
    ids: tuple[str, ...]
    phases: frozenset[Phase] = frozenset(Phase)
    reads_rows: bool = False
    may_wait: bool = False
    to_serve: frozenset[str] = frozenset()
    by_id_alone: bool = False


@dataclass(frozen=True)
class Selection:
    """Which checks of all: those of these ids, without those, of one phase; with or without those that read rows."""

    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    phase: Phase | None = None
    data: bool = False

    def wants(self, id: str) -> bool:  # noqa: A002 as in Finding
        return (not self.only or id in self.only) and id not in self.skip

    def wants_check(self, registered: Registered) -> bool:
        return (
            any(map(self.wants, registered.ids))
            and (self.phase is None or self.phase in registered.phases)
            and (bool(self.only & set(registered.ids)) or not registered.by_id_alone)
            and (bool(self.only & set(registered.ids)) or not registered.reads_rows or self.data)
        )


@dataclass
class _Registry:
    checks: list[Registered] = field(default_factory=list)
    made_at_run_time: list[str] = field(default_factory=list)


_registry = _Registry()


def register(
    check: Check,
    ids: Iterable[str],
    phases: Iterable[Phase] = Phase,
    reads_rows: bool = False,
    may_wait: bool = False,
    to_serve: Iterable[str] = (),
    by_id_alone: bool = False,
) -> None:
    """Add a check to every run of dbhealth, with the ids of all that it can yield.

    One that `reads_rows` runs with --data alone. One that `may_wait` asks for locks on tables; where they are not to be
    had, the rest of the run goes on. A critical finding of an id in `to_serve` keeps a process of the site from
    serving, so the check must be cheap: keyhub.probes runs it every second. One `by_id_alone` is left out of a run that
    does not name one of its ids.
    """
    _registry.checks = [known for known in _registry.checks if known.check is not check]
    _registry.checks.append(
        Registered(check, tuple(ids), frozenset(phases), reads_rows, may_wait, frozenset(to_serve), by_id_alone)
    )


def made_at_run_time(identity: str) -> None:
    """Let drift pass what no migration makes, but a command of the app's; a regular expression of identities."""
    if identity not in _registry.made_at_run_time:
        _registry.made_at_run_time.append(identity)


def is_made_at_run_time(identity: str) -> bool:
    return any(re.fullmatch(pattern, identity) for pattern in _registry.made_at_run_time)


def known_ids() -> set[str]:
    return {check_id for registered in _registry.checks for check_id in registered.ids} | {NOT_LOOKED}


def ids_to_serve() -> frozenset[str]:
    """The ids without whose critical findings a process of the site can serve."""
    return frozenset(check_id for registered in _registry.checks for check_id in registered.to_serve)


def ids(selection: Selection) -> list[str]:
    """The ids that a run with this selection looks for."""
    wanted = (registered for registered in _registry.checks if selection.wants_check(registered))
    return sorted({check_id for registered in wanted for check_id in filter(selection.wants, registered.ids)})


def _results(registered: Registered, examination: Examination) -> list[Result]:
    if not registered.may_wait:
        return list(registered.check(examination))
    try:
        with transaction.atomic(using=examination.connection.alias):
            return list(registered.check(examination))
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
    finding = Finding(
        NOT_LOOKED,
        Severity.CRITICAL,
        registered.check.__name__,
        "not looked at: another session holds a table exclusively",
        "run this again when it has ended; keyhub.H024 tells which one it is",
    )
    return [finding]


def run(
    database: str,
    selection: Selection | None = None,
    place: str | None = None,
    state: placement.State | None = None,
) -> Report:
    """Run the checks on a database, named by its alias; the findings come worst first.

    They see one snapshot, in a read-only transaction with a statement_timeout. `place` is the alias of the database of
    which it is a copy, where it is one; `state` is what the tenant database says of where rows are written.
    Raises django.db.utils.DatabaseError where the database cannot be asked.
    """
    selection = selection or Selection()
    report = Report(database)
    if place is None:
        place = database if database == placement.ADMIN else DEFAULT_DB_ALIAS
    examination = Examination(connections[database], report, place, state)
    with transaction.atomic(using=database):
        with connections[database].cursor() as cursor:
            cursor.execute(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; "
                f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"
            )
        wanted = [registered for registered in _registry.checks if selection.wants_check(registered)]
        results = [result for registered in wanted for result in _results(registered, examination)]
        results = [result for result in results if selection.wants(result.id) or result.id == NOT_LOOKED]
        report.findings = [result for result in results if isinstance(result, Finding)]
        report.skipped = [result for result in results if isinstance(result, Skipped)]
        unreadable = [result for result in results if isinstance(result, Unreadable)]
        if unreadable:
            report.add_unreadable(unreadable, examination.role)
        if placement.has_admin() and not examination.is_copy:
            report.state = examination.state
    order = list(Severity)
    # Stable: checks run in the order in which their mends can be run.
    report.findings.sort(key=lambda finding: order.index(finding.severity))
    return report
