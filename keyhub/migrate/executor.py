"""Django's MigrationExecutor with the guarantees that a busy database needs."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import OperationalError, transaction
from django.db.migrations.migration import Migration
from django.db.migrations.operations import RunSQL
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from keyhub import placement, sql_text
from keyhub.dbversion.database import Plan, current_digest
from keyhub.dbversion.loader import DatabaseLoader
from keyhub.dbversion.version_list import Version
from keyhub.migrate import statements
from keyhub.migrate.blockers import BlockerWatch
from keyhub.migrate.history import History
from keyhub.migrate.lean import LeanExecutor, without_models
from keyhub.migration_operations import RunSQLFile, with_nested

LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
CLIENT_CONNECTION_CHECK_INTERVAL_MS = 500

Result = TypeVar("Result")


@dataclass(frozen=True)
class LockPolicy:
    """How long a statement may wait for a strong lock, in milliseconds, and how many times it is tried again."""

    lock_timeout_ms: int = 500
    retries: int = 10


class LockNotGotError(Exception):
    """The locks of a migration were not to be had in all tries; the text is one sentence for people."""


class RefusedError(Exception):
    """A migration must not be run as things are; the text is one sentence for people."""


class SafeMigrationExecutor(LeanExecutor):
    """Runs each migration under a short lock_timeout, in one transaction with its record, and tries again.

    Whoever waits for a strong lock makes all who come after wait as well; the timeout bounds that, and between two
    tries nothing is held. A migration outside a transaction is taken up again where it was interrupted.
    """

    def __init__(
        self,
        connection,
        progress_callback=None,
        *,
        policy: LockPolicy,
        tell: Callable[[str], None],
        versions: list[Version],
        plan: Plan | None = None,
    ):
        """`plan` is what to run instead of the way to the targets that migrate() is given."""
        super().__init__(connection, progress_callback)
        self.is_of_admin = connection is not None and connection.alias == placement.ADMIN
        if self.is_of_admin:
            self.loader = DatabaseLoader(connection)
        self.policy = policy
        self.tell = tell
        self.plan = plan
        self.positions = {key: n for n, key in enumerate(key for version in versions for key in version.migrations)}
        self.history = History(connection)
        self.resuming = False

    def migration_plan(self, targets, clean_start=False):
        if self.plan is not None and not clean_start:
            return self.plan
        plan = super().migration_plan(targets, clean_start)
        if any(backwards for _, backwards in plan):
            recorded = getattr(self.loader, "recorded", None)  # without those that do nothing here
            return [step for step in plan if recorded is None or (step[0].app_label, step[0].name) in recorded]
        # Version by version, where Django would go app by app.
        unlisted = len(self.positions)
        return sorted(plan, key=lambda step: self.positions.get((step[0].app_label, step[0].name), unlisted))

    @staticmethod
    def refuse_irreversible(plan: Plan) -> None:
        """Raise RefusedError where a step back has no way back, before the first step is taken."""
        for migration, backwards in plan:
            for operation in migration.operations if backwards else []:
                if not operation.reversible:
                    raise RefusedError(
                        f"{migration} has no way back ({operation.describe()}), so nothing was taken back. "
                        "Go down no further than to it, or restore a backup."
                    )

    def migrate(self, targets, plan=None, state=None, fake=False, fake_initial=False):
        self.history.ensure_table()
        self.history.record_seen(self.loader.graph.nodes)
        if not plan:
            return super().migrate(targets, plan, state, fake, fake_initial)
        if not fake:
            self.refuse_irreversible(plan)
        # The statement of a runner that was killed ends by itself, and with it the runner's lock.
        self._set("client_connection_check_interval", CLIENT_CONNECTION_CHECK_INTERVAL_MS)
        self._set("lock_timeout", self.policy.lock_timeout_ms)
        watch = BlockerWatch(self.connection)
        try:
            with watch.running() as self.blockers, self.connection.execute_wrapper(self._execute):
                return super().migrate(targets, plan, state, fake, fake_initial)
        finally:
            if self.connection.is_usable():
                self._set("lock_timeout", 0)

    # In the Admin database migrations that do nothing stand among those to run, and change the models all the same.

    def _create_project_state(self, with_applied_migrations=False):
        if not self.is_of_admin or not with_applied_migrations:
            return super()._create_project_state(with_applied_migrations)
        state = ProjectState(real_apps=self.loader.unmigrated_apps)
        for migration, _ in self.migration_plan(self.loader.graph.leaf_nodes(), clean_start=True):
            if (migration.app_label, migration.name) not in self.loader.applied_migrations:
                break
            migration.mutate_state(state, preserve=False)
        return state

    def _migrate_all_forwards(self, state, plan, full_plan, fake, fake_initial):
        if not self.is_of_admin:
            return super()._migrate_all_forwards(state, plan, full_plan, fake, fake_initial)
        to_run = {migration for migration, _ in plan}
        state = ProjectState(real_apps=self.loader.unmigrated_apps)
        for migration, _ in full_plan:
            if migration in to_run:
                state = self.apply_lean(state, migration, fake, fake_initial)
            elif (migration.app_label, migration.name) in self.loader.applied_migrations:
                without_models(state)
                migration.mutate_state(state, preserve=False)
        return state

    def apply_migration(self, state, migration, fake=False, fake_initial=False):
        apply = super().apply_migration
        if migration.atomic:
            # Running a migration changes the state it is given, so each try gets a copy.
            return self._in_transaction(migration, lambda: apply(state.clone(), migration, fake, fake_initial))
        if fake:
            return apply(state, migration, fake, fake_initial)
        key = migration.app_label, migration.name
        text = current_digest(migration)
        self.resuming = self.history.interrupted(*key, text)
        if not self.resuming:
            for index in _indexes_built_concurrently(migration):
                self._index_is_built(index)
            self.history.record_started(*key, text)
        try:
            return apply(state, migration, fake, fake_initial)
        except RefusedError:
            # An index of somebody else's, by a name that only the run itself brought to light.
            self.history.record_unapplied(*key)
            raise
        finally:
            self.resuming = False

    def unapply_migration(self, state, migration, fake=False):
        unapply = super().unapply_migration
        key = migration.app_label, migration.name

        def unapply_and_record():
            unapplied = unapply(state, migration, fake)
            self.history.record_unapplied(*key)
            return unapplied

        if migration.atomic:
            return self._in_transaction(migration, unapply_and_record)
        if fake:
            return unapply_and_record()
        text = current_digest(migration)
        self.resuming = self.history.interrupted(*key, text)
        if not self.resuming:
            self.history.record_started_back(*key, text)
        try:
            return unapply_and_record()
        except RefusedError:
            self.history.record_applied(*key, text)
            raise
        finally:
            self.resuming = False

    def record_migration(self, migration):
        with transaction.atomic(using=self.connection.alias):
            super().record_migration(migration)
            self.history.record_applied(migration.app_label, migration.name, current_digest(migration))

    def _in_transaction(self, migration: Migration, attempt: Callable[[], Result]) -> Result:
        def in_transaction():
            with transaction.atomic(using=self.connection.alias):
                return attempt()

        return self._until_locks_are_got(str(migration), in_transaction)

    def _until_locks_are_got(self, what: str, attempt: Callable[[], Result]) -> Result:
        tries = self.policy.retries + 1
        for number in range(1, tries + 1):
            self.blockers.take()
            try:
                return attempt()
            except OperationalError as error:
                if getattr(error.__cause__, "sqlstate", None) not in (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED):
                    raise
                blockers = "; ".join(self.blockers.take()) or "a session that has ended since"
                if number == tries:
                    raise LockNotGotError(
                        f"{what} did not get its locks in {tries} {'try' if tries == 1 else 'tries'} of "
                        f"{self.policy.lock_timeout_ms} ms, and has changed nothing. In its way: {blockers}. "
                        "End that session, or run this again later."
                    ) from error
                self.tell(f"{what}: lock not got in try {number} of {tries}. In its way: {blockers}.")
                pause_s = min(FIRST_PAUSE_S * 2 ** (number - 1), LONGEST_PAUSE_S)
                time.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 jitter
        raise AssertionError("the last try returns or raises")

    def _execute(self, execute, sql, params, many, context):
        """Run one statement of a migration: patient ones without lock_timeout, index builds on clean ground."""
        text = sql if isinstance(sql, str) else ""
        index = statements.index_built_concurrently(text)
        if index is not None and self._index_is_built(index):
            return None

        def attempt():
            return execute(sql, params, many, context)

        if statements.is_patient(text) and not self._holds_strong_locks():
            self._set("lock_timeout", 0)
            result = attempt()
            self._set("lock_timeout", self.policy.lock_timeout_ms)
            return result
        if self.connection.in_atomic_block:
            return attempt()
        return self._until_locks_are_got(" ".join(text.split())[:80], attempt)

    def _holds_strong_locks(self) -> bool:
        """Say whether somebody would wait for this transaction while it waits."""
        if not self.connection.in_atomic_block:
            return False
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' "
                "AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
            )
            return bool(cursor.rowcount)

    def _index_is_built(self, index: str) -> bool:
        """Drop an invalid index of this name, left by an interrupted build; True for the own, finished one."""
        valid = self._index_validity(index)
        if valid is False:
            self.tell(f"The index {index} is invalid, left by an interrupted build: dropping it and building it anew.")
            with self.connection.cursor() as cursor:
                cursor.execute(f"DROP INDEX CONCURRENTLY {self.connection.ops.quote_name(index)}")
        if valid and not self.resuming:
            # Also where the migration says IF NOT EXISTS: nobody knows what that index is of.
            raise RefusedError(
                f"an index {index} exists already, and this migration was to build it. Compare the two; drop the index "
                "and run this again, or record the migration with --fake."
            )
        return bool(valid)

    def _index_validity(self, index: str) -> bool | None:
        with self.connection.cursor() as cursor:
            # That of a partitioned table is itself nothing built: it is invalid as long as a partition lacks its own.
            cursor.execute(
                "SELECT indisvalid OR relkind = 'I' FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
                "WHERE indexrelid = to_regclass(%s)",
                [self.connection.ops.quote_name(index)],
            )
            row = cursor.fetchone()
        return None if row is None else row[0]

    def _set(self, name: str, milliseconds: int) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT set_config(%s, %s, false)", [name, str(milliseconds)])


def _indexes_built_concurrently(migration: Migration) -> Iterator[str]:
    """The indexes that a migration builds CONCURRENTLY, as far as it says so before it runs."""
    for operation in with_nested(migration.operations):
        if isinstance(operation, AddIndexConcurrently):
            yield operation.index.name
        for statement in _sql(operation, migration.app_label):
            index = statements.index_built_concurrently(statement)
            if index is not None:
                yield index


def _sql(operation: Operation, app_label: str) -> Iterator[str]:
    if isinstance(operation, RunSQLFile):
        yield from operation.statements(app_label, "up")
    elif isinstance(operation, RunSQL):
        for part in [operation.sql] if isinstance(operation.sql, str) else operation.sql:
            yield from sql_text.statements(part if isinstance(part, str) else part[0])
