"""What a plan of migrations would do: its SQL, the locks of each statement by the ledger, and the tables' sizes of now.

Nothing is changed, and no lock is waited for. The SQL is collected as sqlmigrate does; what the ledger does not know is
said to be unknown.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.migration import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from keyhub.dbversion.database import Plan
from keyhub.lockledger import ledger
from keyhub.lockledger.modes import MODES, who_waits
from keyhub.migrate.executor import SafeMigrationExecutor
from keyhub.migrate.runner_lock import refuse_transaction_pooler

UNKNOWN = "lock unknown: run manage.py lockledger"
LONGEST_WAIT_MS = 20
LOCK_NOT_AVAILABLE = "55P03"

# By their names in the ledger, in which the months of a partitioned table stand as one. The tree is walked here, since
# pg_partition_tree() locks what it lists.
TABLES = """
    WITH RECURSIVE named (name, oid) AS (
        SELECT name, pg_class.oid
        FROM unnest(%s::text[]) AS name, LATERAL parse_ident(name) AS parts, pg_class
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = CASE WHEN array_length(parts, 1) > 1 THEN parts[1] ELSE current_schema() END
          AND (relname = parts[array_length(parts, 1)]
               OR relispartition AND relname ~ '_\\d{4}_\\d{2}'
                  AND regexp_replace(relname, '_\\d{4}_\\d{2}(?=_|$)', '_YYYY_MM') = parts[array_length(parts, 1)])
        UNION
        SELECT name, inhrelid FROM named JOIN pg_inherits ON inhparent = oid
    )
    SELECT name, array_agg(oid), bool_and(reltuples < 0), sum(greatest(reltuples, 0))::bigint
    FROM named JOIN pg_class USING (oid) WHERE relkind <> 'p' GROUP BY name
"""
SIZE = "SELECT sum(pg_total_relation_size(oid)) FROM unnest(%s::oid[]) AS oid"


@dataclass(frozen=True)
class Size:
    """Of a table with its partitions and indexes. `rows` is an estimate, None before the first ANALYZE; `bytes` is
    None where another session keeps the table locked."""

    rows: int | None
    bytes: int | None

    def __str__(self) -> str:
        rows = "rows not estimated yet" if self.rows is None else f"about {self.rows} rows"
        size = "size unknown while another session locks it" if self.bytes is None else _pretty(self.bytes)
        return f"{rows}, {size}"


@dataclass(frozen=True)
class Lock:
    table: str
    mode: str
    size: Size | None
    """None for a table that is not there yet."""

    def __str__(self) -> str:
        waiting = {"nobody": "nobody waits"}.get(who_waits(self.mode), f"{who_waits(self.mode)} wait")
        return f"{self.mode} on {self.table} ({self.size or 'not there yet'}): {waiting}"


@dataclass
class Item:
    """A statement, or an operation in Python, or what cannot be told (`problem`)."""

    text: str
    key: str | None
    is_python: bool = False
    problem: str | None = None
    is_known: bool = False
    is_behind_a_lock: bool = False
    """The transaction holds a lock since an earlier statement."""
    locks: list[Lock] = field(default_factory=list)
    rewrites: list[str] = field(default_factory=list)
    rebuilds: list[str] = field(default_factory=list)

    def facts(self) -> Iterator[str]:
        if self.problem:
            yield self.problem
            return
        if not self.is_known:
            yield UNKNOWN
            return
        yield from map(str, self.locks)
        yield from (f"rewrites {table}" for table in self.rewrites)
        yield from (f"rebuilds {index}" for index in self.rebuilds)
        if not (self.locks or self.rewrites or self.rebuilds):
            yield "no lock but those held already" if self.is_behind_a_lock else "no lock"

    def as_json(self) -> dict:
        return {
            **({"python": self.text.removeprefix("Python: ")} if self.is_python else {"sql": self.text}),
            "problem": self.problem,
            "known": self.is_known,
            "locks": [
                {
                    "table": lock.table,
                    "mode": lock.mode,
                    "waiting": who_waits(lock.mode),
                    "rows": lock.size and lock.size.rows,
                    "bytes": lock.size and lock.size.bytes,
                }
                for lock in self.locks
            ],
            "rewrites": self.rewrites,
            "rebuilds": self.rebuilds,
        }


@dataclass
class PlannedStep:
    migration: Migration
    backwards: bool
    items: list[Item]

    @property
    def direction(self) -> str:
        return "down" if self.backwards else "up"

    def lines(self) -> Iterator[str]:
        for item in self.items:
            yield from (f"    {line}" for line in item.text.strip("\n").splitlines())
            yield from (f"        -- {fact}" for fact in item.facts())

    def as_json(self) -> dict:
        return {
            "migration": str(self.migration),
            "direction": self.direction,
            "atomic": self.migration.atomic,
            "statements": [item.as_json() for item in self.items],
        }


class PlanningExecutor(SafeMigrationExecutor):
    """Hands on the plan that Django's command asks for, explained."""

    def __init__(self, *args, planned: Callable[[list[PlannedStep]], None], **kwargs):
        super().__init__(*args, **kwargs)
        self.planned = planned

    def migration_plan(self, targets, clean_start=False):
        plan = super().migration_plan(targets, clean_start)
        if not clean_start:
            self.planned(self._explained(plan))
        return plan

    def _explained(self, plan: Plan) -> list[PlannedStep]:
        """Raises LedgerError for a ledger that cannot be read (one that is missing knows nothing), PoolerError."""
        path = ledger.default_path()
        known = ledger.read(path) if path.exists() else {}
        # Behind it, other clients would be given a session that refuses to write.
        refuse_transaction_pooler(self.connection)
        with _session(self.connection, default_transaction_read_only="on", lock_timeout=str(LONGEST_WAIT_MS)):
            steps = [
                PlannedStep(migration, backwards, _collect(self.connection, migration, backwards, state))
                for migration, backwards, state in self._with_states(plan)
            ]
            tables = {
                table
                for step in steps
                for facts in known.get((str(step.migration), step.direction), ledger.Step()).facts.values()
                for table in facts.locks
            }
            sizes = _sizes(self.connection, sorted(tables))
        for step in steps:
            _add_facts(step, known.get((str(step.migration), step.direction), ledger.Step()), sizes)
        return steps

    def _with_states(self, plan: Plan) -> Iterator[tuple[Migration, bool, ProjectState]]:
        """Each step with the state of the models before its migration."""
        wanted = {migration for migration, _ in plan}
        applied = {
            self.loader.graph.nodes[key] for key in self.loader.applied_migrations if key in self.loader.graph.nodes
        }
        state = ProjectState(real_apps=self.loader.unmigrated_apps)
        states = {}
        for migration, _ in self.migration_plan(self.loader.graph.leaf_nodes(), clean_start=True):
            if migration in wanted:
                state.apps  # noqa: B018 rendered once: from here on only what an operation changes is rendered anew
                states[migration] = state.clone()
            if migration in applied | wanted:
                migration.mutate_state(state, preserve=False)
        for migration, backwards in plan:
            yield migration, backwards, states[migration]


def _collect(connection: BaseDatabaseWrapper, migration: Migration, backwards: bool, state: ProjectState) -> list[Item]:
    """The statements of a migration, as Migration.apply() and unapply() of Django would run its operations."""
    items: list[Item] = []
    with _collecting_editor(connection, items) as editor:
        for operation, before, after in _operations(migration, backwards, state):
            name = ledger.python_name(operation, backwards)
            if backwards and not operation.reversible:
                items.append(Item(operation.describe(), None, problem="no way back"))
            elif name is not None:
                items.append(Item(ledger.python_key(name), ledger.python_key(name), is_python=True))
            else:
                run = operation.database_backwards if backwards else operation.database_forwards
                try:
                    run(migration.app_label, editor, before, after)
                except Exception as error:  # noqa: BLE001 whatever keeps an operation from being shown is told instead
                    reason = " ".join(str(error).split())
                    problem = f"its SQL is not known before the steps above have run ({reason})"
                    items.append(Item(operation.describe(), None, problem=problem))
    return items


def _operations(
    migration: Migration, backwards: bool, state: ProjectState
) -> Iterator[tuple[Operation, ProjectState, ProjectState]]:
    """Each operation with the states that it goes from and to."""
    steps = []
    for operation in migration.operations:
        before, state = state, state.clone()
        operation.state_forwards(migration.app_label, state)
        steps.append((operation, state, before) if backwards else (operation, before, state))
    yield from reversed(steps) if backwards else steps


def _collecting_editor(connection: BaseDatabaseWrapper, items: list[Item]):
    class Editor(connection.SchemaEditorClass):
        def execute(self, sql, params=()):
            key = ledger.statement_key(str(sql))
            super().execute(sql, params)
            items.append(Item(self.collected_sql.pop(), key))

    # Not in a transaction, in which AddIndexConcurrently would refuse to be asked.
    return Editor(connection, collect_sql=True, atomic=False)


def _add_facts(step: PlannedStep, known: ledger.Step, sizes: dict[str, Size]) -> None:
    is_locked = False
    for item in step.items:
        facts = known.facts.get(item.key)
        if facts is None:
            continue
        item.is_known = True
        item.is_behind_a_lock = is_locked
        locks = [(table, mode) for table, modes in facts.locks.items() for mode in modes]
        locks.sort(key=lambda lock: (-MODES.index(lock[1]), lock[0]))
        item.locks = [Lock(table, mode, sizes.get(table)) for table, mode in locks]
        item.rewrites = sorted(facts.rewrites)
        item.rebuilds = sorted(facts.rebuilds)
        is_locked = step.migration.atomic and (is_locked or bool(locks))


def _sizes(connection: BaseDatabaseWrapper, tables: list[str]) -> dict[str, Size]:
    sizes = {}
    with connection.cursor() as cursor:
        cursor.execute(TABLES, [tables])
        for name, oids, never_analyzed, rows in cursor.fetchall():
            sizes[name] = Size(None if never_analyzed else rows, _bytes(cursor, oids))
    return sizes


def _bytes(cursor, oids: list[int]) -> int | None:
    """The size takes an ACCESS SHARE lock for as long as it is looked up; None where that is not to be had at once."""
    try:
        cursor.execute(SIZE, [oids])
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        return None
    (size,) = cursor.fetchone()
    return None if size is None else int(size)


def _pretty(size: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 10240:
            return f"{size} {unit}"
        size = round(size / 1024)
    return f"{size} TB"


@contextmanager
def _session(connection: BaseDatabaseWrapper, **values: str) -> Iterator[None]:
    """Change settings of the session, and put back what they were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name, current_setting(name), set_config(name, value, false) "
            "FROM unnest(%s::text[], %s::text[]) AS setting (name, value)",
            [list(values), list(values.values())],
        )
        before = {name: value for name, value, _ in cursor.fetchall()}
        try:
            yield
        finally:
            for name, value in before.items():
                cursor.execute("SELECT set_config(%s, %s, false)", [name, value])
