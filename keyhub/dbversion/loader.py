"""The migrations as one database sees them: those that do nothing in it count as applied, and are not recorded."""

from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.loader import MigrationLoader

from keyhub import placement


class DatabaseLoader(MigrationLoader):
    """Django's loader, of which `recorded` are the migrations that the database has really run."""

    def build_graph(self):
        super().build_graph()
        self.recorded = set(self.applied_migrations)
        if self.connection is not None:
            self.applied_migrations |= elsewhere(self.connection.alias, self)

    def check_consistent_history(self, connection):
        """As Django's, but a migration may be recorded behind one that does nothing here."""
        if connection.alias != placement.ADMIN:
            super().check_consistent_history(connection)
            return
        for key in sorted(self.recorded & set(self.graph.nodes)):
            for parent in self.graph.node_map[key].parents:
                if parent.key not in self.applied_migrations:
                    raise InconsistentMigrationHistory(
                        f"{'.'.join(key)} is applied before {'.'.join(parent.key)}, on which it depends, in the "
                        f"database {connection.alias!r}."
                    )


def elsewhere(alias: str, loader: MigrationLoader) -> dict[tuple[str, str], object]:
    """The migrations of the code that do nothing in a database."""
    return {key: node for key, node in loader.graph.nodes.items() if not placement.concerns(alias, node)}
