"""Django's executor, but models are rendered for those migrations alone that ask for them.

Django renders all of them before the first migration, and whatever changes anew after each one: most of the time of a
whole run, whose migrations are SQL, and words that no database knows.
"""

import copy
from collections.abc import Iterator

from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.migration import Migration
from django.db.migrations.operations import AlterField, AlterModelOptions, RunSQL, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import Field

from keyhub.migration_operations import RefuseRows, RunSQLFile

WITHOUT_MODELS = (RunSQL, RunSQLFile, RefuseRows, SeparateDatabaseAndState)
WORDS = {"choices", "help_text", "verbose_name"}


class LeanExecutor(MigrationExecutor):
    """Runs each migration with models where it asks for them, and without where it does not."""

    def _migrate_all_forwards(self, state, plan, full_plan, fake, fake_initial):
        to_run = {migration for migration, _ in plan}
        for migration, _ in full_plan:
            if migration in to_run:
                state = self.apply_lean(state, migration, fake, fake_initial)
        return state

    def apply_lean(self, state: ProjectState, migration: Migration, fake: bool, fake_initial: bool) -> ProjectState:
        """Apply a migration to a state, whose models are rendered if need be."""
        lean = without_words(migration, state)
        _render_for(lean, state)
        return self.apply_migration(state, lean, fake=fake, fake_initial=fake_initial)

    def _migrate_all_backwards(self, plan, full_plan, fake):
        to_run = {migration for migration, _ in plan}
        stay = {self.loader.graph.nodes.get(key) for key in self.loader.applied_migrations} - to_run
        steps, state = {}, self._create_project_state()
        for migration, _ in full_plan:
            if migration in to_run:
                lean = without_words(migration, state)
                _render_for(lean, state)
                steps[migration] = lean, state
                state = migration.mutate_state(state, preserve=True)
            elif migration in stay:
                without_models(state)
                migration.mutate_state(state, preserve=False)
        for migration, _ in plan:
            lean, before = steps.pop(migration)
            self.unapply_migration(before, lean, fake=fake)
        state = self._create_project_state()
        for migration, _ in full_plan:
            if migration in stay:
                migration.mutate_state(state, preserve=False)
        return state


def without_models(state: ProjectState) -> None:
    """Let a state be changed without rendering anew what changes."""
    state.__dict__.pop("apps", None)


def without_words(migration: Migration, state: ProjectState) -> Migration:
    """A migration to a state that it has not changed yet; as one of the state alone where it changes nothing else."""
    if not all(_is_of_words(operation, migration.app_label, state) for operation in migration.operations):
        return migration
    lean = copy.copy(migration)
    lean.operations = [SeparateDatabaseAndState(state_operations=migration.operations)] if migration.operations else []
    return lean


def _is_of_words(operation: Operation, app_label: str, state: ProjectState) -> bool:
    if isinstance(operation, AlterModelOptions):
        return True
    if not isinstance(operation, AlterField):
        return False
    model = state.models.get((app_label, operation.model_name_lower))
    before = model and model.fields.get(operation.name)
    return before is not None and list(_without_words(before)) == list(_without_words(operation.field))


def _without_words(field: Field) -> Iterator[object]:
    _, path, args, named = field.deconstruct()
    yield path
    yield from args
    yield {name: value for name, value in named.items() if name not in WORDS}


def _render_for(migration: Migration, state: ProjectState) -> None:
    if all(isinstance(operation, WITHOUT_MODELS) for operation in migration.operations):
        without_models(state)
    else:
        state.apps  # noqa: B018 renders them
