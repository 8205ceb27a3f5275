import json
from datetime import UTC, datetime

from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from keyhub import placement
from keyhub.dbversion import version_list
from keyhub.dbversion.database import DatabaseVersion


class Command(BaseCommand):
    help = "Tell at which version of the project the database is, and which versions it has still to run."
    # It also mends the list, about which the checks complain.
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--database", choices=tuple(connections), help="one of them (default: all there are)")
        parser.add_argument("--format", default="text", choices=("text", "json"))
        parser.add_argument(
            "--write",
            action="store_true",
            help="write keyhub/versions.txt anew: digests of today, and a version for the migrations that have none",
        )

    def handle(self, *, database, format, write, **options):  # noqa: A002 the option's name
        try:
            versions = version_list.read()
        except version_list.VersionListError as error:
            raise CommandError(str(error)) from error
        if write:
            self._write_list(versions)
            return
        reports = [self._report(alias, versions, format) for alias in ([database] if database else placement.aliases())]
        if any(reports):
            raise SystemExit(1)

    def _report(self, database: str, versions: list[version_list.Version], form: str) -> list[str]:
        """Tell of one database, with JSON in a line of its own; return what keeps migrate from going on."""
        found = DatabaseVersion(connections[database], versions)
        refusals = found.refusals()
        if form == "json":
            report = {
                "database": database,
                "current": str(found.current) if found.current else None,
                "place": found.current.place if found.current else 0,
                "pending": [str(version) for version in found.pending],
                "refusals": refusals,
            }
            self.stdout.write(json.dumps(report))
            return refusals
        of = f" ({found.current.place} of {len(versions)})" if found.current else ""
        self.stdout.write(f"{database}: {found.current or 'before the first version'}{of}")
        for version in found.pending:
            self.stdout.write(f"    pending: {version}")
        for sentence in refusals:
            self.stderr.write(f"{database}: {sentence}")
        return refusals

    def _write_list(self, versions: list[version_list.Version]) -> None:
        graph = MigrationLoader(connection=None, ignore_no_migrations=True).graph
        number = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
        listed = version_list.with_unlisted(versions, graph, number)
        version_list.write(listed, graph)
        for version in listed[len(versions) :]:
            self.stdout.write(f"{version}: added")
        self.stdout.write(f"{version_list.default_path().name}: {len(listed)} versions")
