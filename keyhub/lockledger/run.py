"""The run that the ledger is made from: every migration up and down, through migrate's own executor."""

import copy
from collections.abc import Callable

from django.db import DatabaseError, OperationalError, connections, transaction
from django.db.migrations.migration import Migration
from django.db.migrations.state import ProjectState
from django.test.utils import override_settings

from keyhub.dbversion import version_list
from keyhub.lockledger.ledger import Ledger, LedgerError, Step, python_name
from keyhub.lockledger.observer import Observer
from keyhub.lockledger.scratch import scratch_database
from keyhub.migrate.executor import LockNotGotError, LockPolicy, RefusedError, SafeMigrationExecutor


def measure(alias: str) -> Ledger:
    """Run all migrations in a scratch database beside the one of `alias`. Raises LedgerError, PoolerError."""
    connection = connections[alias]
    # What DEMO_DATA adds is in the ledger whatever it says here: the file must not depend on somebody's environment.
    with scratch_database(connection), override_settings(DEMO_DATA=True):
        return _Run(alias).all()


class _Run:
    def __init__(self, alias: str):
        self.connection = connections[alias]
        self.observer = Observer(self.connection)
        self.executor = SafeMigrationExecutor(
            self.connection, policy=LockPolicy(), tell=lambda _: None, versions=version_list.read()
        )
        self.ledger: Ledger = {}

    def all(self) -> Ledger:
        self.executor.recorder.ensure_schema()
        # On this object, not on its class: other connections go on without being observed.
        self.connection.SchemaEditorClass = _observed_editor(self.connection.SchemaEditorClass, self.observer)
        try:
            with self.connection.execute_wrapper(self.observer):
                state = ProjectState(real_apps=self.executor.loader.unmigrated_apps)
                for migration, _ in self.executor.migration_plan(self.executor.loader.graph.leaf_nodes()):
                    state = self._up_and_down(migration, state)
        finally:
            del self.connection.SchemaEditorClass
        return self.ledger

    def _up_and_down(self, migration: Migration, before: ProjectState) -> ProjectState:
        """Run a migration both ways, and leave it applied."""
        migration.operations = [self._watched(operation) for operation in migration.operations]
        after = self._observed(migration, "up", before.clone())
        self.executor.loader.applied_migrations[migration.app_label, migration.name] = migration
        if not all(operation.reversible for operation in migration.operations):
            self.ledger[str(migration), "down"] = Step(has_way=False)
        elif migration.atomic:
            # Taken back itself, since a way back need not undo everything.
            with transaction.atomic(using=self.connection.alias):
                self._observed(migration, "down")
                transaction.set_rollback(True, using=self.connection.alias)
        else:
            self._observed(migration, "down")
            self._run(migration, "up", before.clone())
        return after

    def _observed(self, migration: Migration, direction: str, state: ProjectState | None = None) -> ProjectState:
        step = self.ledger[str(migration), direction] = Step()
        with self.observer.observing(step):
            return self._run(migration, direction, state)

    def _run(self, migration: Migration, direction: str, state: ProjectState | None = None) -> ProjectState:
        try:
            return self.executor.migrate(None, [(migration, direction == "down")], state)
        except (DatabaseError, LockNotGotError, RefusedError) as error:
            if isinstance(error, OperationalError):
                raise
            raise LedgerError(
                f"{migration} cannot be run {direction} in the scratch database: {' '.join(str(error).split())}"
            ) from error

    def _watched(self, operation):
        """A copy of an operation in Python that tells the observer when it begins and ends."""
        if python_name(operation, backwards=False) is None:
            return operation
        watched = copy.copy(operation)
        for method, backwards in (("database_forwards", False), ("database_backwards", True)):
            setattr(watched, method, self._telling(getattr(operation, method), python_name(operation, backwards)))
        return watched

    def _telling(self, method: Callable, name: str | None) -> Callable:
        def run(*args):
            with self.observer.python(name):
                method(*args)

        return run


def _observed_editor(editor_class: type, observer: Observer) -> type:
    class Editor(editor_class):
        def execute(self, sql, params=()):
            # The text before its parameters are put in: a default may be the time of day.
            with observer.statement(str(sql)):
                return super().execute(sql, params)

    return Editor
