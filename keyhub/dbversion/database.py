"""At which version a database is, what keeps it from going on, and the way to another version."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration

from keyhub.dbversion import version_list
from keyhub.dbversion.digests import digest
from keyhub.dbversion.loader import DatabaseLoader
from keyhub.dbversion.version_list import MigrationKey, Version, is_own
from keyhub.migrate.history import History

COUNTED_EXACTLY_BELOW_ROWS = 1_000_000

Plan = list[tuple[Migration, bool]]


@dataclass(frozen=True)
class Loss:
    """Rows or values that going down would destroy: of a table, or of a column (`table.column`)."""

    object: str
    kind: str
    count: int
    estimated: bool

    def __str__(self) -> str:
        return f"{self.object}: {'about ' if self.estimated else ''}{self.count} {self.kind}"


class DatabaseVersion:
    """The versions of the list, seen from one database."""

    def __init__(self, connection: BaseDatabaseWrapper, versions: list[Version], loader: MigrationLoader | None = None):
        self.connection = connection
        self.versions = versions
        self.loader = loader or DatabaseLoader(connection)
        self.applied: set[MigrationKey] = set(self.loader.applied_migrations)
        self.recorded: set[MigrationKey] = getattr(self.loader, "recorded", self.applied)
        self.history = History(connection)

    @property
    def current(self) -> Version | None:
        """The newest version that is applied with all before it; None on an empty database."""
        return version_list.newest_whole(self.versions, self.applied)

    @property
    def pending(self) -> list[Version]:
        """The versions of which a migration is not applied, in their order."""
        return [version for version in self.versions if not self.applied.issuperset(version.migrations)]

    @property
    def unknown(self) -> list[MigrationKey]:
        """Applied migrations that the code does not have, although it has their app: the database is ahead of it."""
        return unknown_to(self.loader, self.applied)

    def unknown_of_gone_apps(self) -> list[MigrationKey]:
        """Applied migrations of our own of an app that the code lacks as a whole: only ours have a digest."""
        recorded = self.history.digests()
        return sorted(
            key for key in self.applied if key[0] not in self.loader.migrated_apps and recorded.get(key) is not None
        )

    def added_late(self) -> list[tuple[MigrationKey, Version]]:
        """Migrations that no run has seen before, in a version of which this database has others already."""
        seen = self.history.seen()
        return [
            (key, version)
            for version in self.pending
            if seen and self.applied & set(version.migrations)
            for key in version.migrations
            if key not in self.applied and key not in seen
        ]

    def merged_late(self) -> list[tuple[Version, Version]]:
        """Pending versions that no run has seen before, each with the newest applied version that stands after it."""
        seen = self.history.seen()
        if not seen:
            return []
        late = []
        for version in self.pending:
            after = [later for later in self.versions[version.place :] if self.applied & set(later.migrations)]
            if after and not seen & set(version.migrations):
                late.append((version, after[-1]))
        return late

    def edited(self) -> list[MigrationKey]:
        """Applied migrations that said something else when they were applied here."""
        recorded = self.history.digests()
        return sorted(
            key
            for key in self.applied & set(self.loader.graph.nodes)
            if recorded.get(key) and recorded[key] != current_digest(self.loader.graph.nodes[key])
        )

    def refusals(self) -> list[str]:
        """One sentence for each thing for which migrate must not go on."""
        sentences = [
            f"the database is ahead of this code: {'.'.join(key)} is applied and unknown here. "
            "Deploy the code that has it, or take it back with that code first."
            for key in sorted({*self.unknown, *self.unknown_of_gone_apps()})
        ]
        sentences += [
            f"the version {version} was merged behind {applied}, which this database has already. "
            "Move it to the end of keyhub/versions.txt with a number of today."
            for version, applied in self.merged_late()
        ]
        sentences += [
            f"{'.'.join(key)} was added to the version {version}, of which this database has the rest already. "
            "Move it to a version of its own at the end of keyhub/versions.txt with a number of today."
            for key, version in self.added_late()
        ]
        sentences += [
            f"{'.'.join(key)} was edited after this database ran it. "
            "Take the edit back, and write a new migration for the change."
            for key in self.edited()
        ]
        return sentences

    def plan_to(self, target: Version | None) -> Plan:
        """The migrations to run, and whether backwards, to be at `target`; None is the empty database.

        Backwards where anything after the target is applied, else forwards.
        """
        place = target.place if target else 0
        keys = [key for version in self.versions[place:] for key in version.migrations]
        backwards = [(self.loader.graph.nodes[key], True) for key in reversed(keys) if key in self.recorded]
        if backwards:
            return backwards
        keys = [key for version in self.versions[:place] for key in version.migrations]
        return [(self.loader.graph.nodes[key], False) for key in keys if key not in self.applied]

    def losses(self, plan: Plan) -> list[Loss]:
        """What a backward plan would destroy: the rows of its tables and the values of its columns, where any are."""
        after = self.applied - {(migration.app_label, migration.name) for migration, _ in plan}
        graph = set(self.loader.graph.nodes)
        before_models = self.loader.project_state(sorted(self.applied & graph)).apps
        after_state = self.loader.project_state(sorted(after & graph)).apps
        after_columns = {
            model._meta.db_table: {field.column for field in model._meta.local_fields}
            for model in after_state.get_models(include_auto_created=True)
        }
        losses = []
        for model in before_models.get_models(include_auto_created=True):
            table = model._meta.db_table
            if table not in after_columns:
                losses.append(self._loss(table, None))
                continue
            columns = [field.column for field in model._meta.local_fields if field.column]
            losses += [self._loss(table, column) for column in columns if column not in after_columns[table]]
        return sorted((loss for loss in losses if loss and loss.count), key=lambda loss: loss.object)

    def _loss(self, table: str, column: str | None) -> Loss | None:
        quote = self.connection.ops.quote_name
        name, kind = (table, "rows") if column is None else (f"{table}.{column}", "values")
        with self.connection.cursor() as cursor:
            # A partitioned table has no estimate of its own.
            cursor.execute(
                "SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class "
                "WHERE oid IN (SELECT relid FROM pg_partition_tree(to_regclass(%s)) UNION ALL SELECT to_regclass(%s))",
                [quote(table), quote(table)],
            )
            (estimate,) = cursor.fetchone()
            if estimate >= COUNTED_EXACTLY_BELOW_ROWS:
                return Loss(name, kind, estimate, estimated=True)
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [quote(table)])
            if not cursor.fetchone()[0]:
                return None
            counted = "*" if column is None else quote(column)
            cursor.execute(f"SELECT count({counted}) FROM {quote(table)}")  # noqa: S608 names of our own models
            return Loss(name, kind, cursor.fetchone()[0], estimated=False)


def unknown_to(loader: MigrationLoader, applied: Iterable[MigrationKey]) -> list[MigrationKey]:
    """Those of some migrations that the code does not have, although it has their app."""
    return sorted(
        key
        for key in set(applied) - set(loader.disk_migrations)
        if key[0] in loader.migrated_apps and key not in loader.graph.nodes
    )


def current_digest(migration: Migration) -> str | None:
    """The digest of a migration of ours; None for one of a package."""
    return digest(migration) if is_own(migration.app_label) else None
