from datetime import UTC, datetime

from django.core.management.commands import makemigrations as django_makemigrations
from django.db.migrations.loader import MigrationLoader

from keyhub.dbversion import version_list


class Command(django_makemigrations.Command):
    help = f"{django_makemigrations.Command.help} They become a version of the project, in keyhub/versions.txt."

    def write_migration_files(self, changes, update_previous_migration_paths=None):
        super().write_migration_files(changes, update_previous_migration_paths)
        if self.dry_run:
            return
        versions = version_list.read()
        graph = MigrationLoader(connection=None, ignore_no_migrations=True).graph
        listed = version_list.with_unlisted(versions, graph, datetime.now(UTC).strftime("%Y%m%d%H%M%S"))
        version_list.write(listed, graph)
        for version in listed[len(versions) :]:
            self.log(f"Version {version}")
